"""On terminals of 60 and 120 columns no line of people's text is longer, but for what is copied whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from terminal import on_terminal
from typer.main import get_command

from linfusion_cli.cli.app import app

SMALL = ("--size", "128x64", "--steps", "10", "--seed", "3", "--device", "cpu")
LONG = "a forest at night with a long road and a moon above it"
# (exit code, words)
CASES = (
    (0, ("plan", "--size", "16k", "--max-memory", "2GB")),
    (0, ("generate", LONG, "--size", "16k", "--max-memory", "2GB", "--dry-run", "-o", "lake")),
    (0, ("upscale", "in.png", "--dry-run")),
    (0, ("batch", "list.txt", "--dry-run")),
    (0, ("batch", "list.txt", *SMALL, "-o", "out")),
    (0, ("fetch", "landscape", "--offline")),
    (66, ("fetch", "sdxl-4k", "--offline")),
    (66, ("generate", LONG, "-p", "sdxl-4k")),
    (0, ("config",)),
    (0, ("doctor",)),
    (0, ("presets", "list")),
    (0, ("presets", "show", "sdxl-4k")),
    (0, ("presets", "check", "sdxl-4k")),
    (0, ("distill", "builtin:landscape", "--data", "scenes", "--dry-run", "-o", "student")),
    (
        0,
        (
            *("distill", "builtin:landscape", "--data", "scenes", "--steps", "2", "--batch-size", "1"),
            *("--size", "64", "-o", "student"),
        ),
    ),
    (0, ("evaluate", "--claims", "-o", "study", "--dry-run")),
    (2, ("generate", LONG, "--sizee", "3")),
    (2, ("generate", LONG, "--scheduler", "foo")),
)


def may_be_long(line: str) -> bool:
    """Whether a line holds nothing but a command, a path or a setting, which people copy."""
    text = line.strip()
    return (
        len(text.split()) == 1
        or re.match(r"(linfusion|LINFUSION_\w+=\S+ linfusion|source|pip|echo|printf|accelerate|torchrun) ", text)
        is not None
        or re.match(r"\w+ = ", text) is not None
    )


@pytest.mark.parametrize(
    ("columns", "code", "words"), [*((60, *case) for case in CASES), *((120, *CASES[at]) for at in (0, 1, 6, -1))]
)
def test_lines_fit(columns: int, code: int, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a lake\n{LONG}\n")
    Image.new("RGB", (64, 32)).save(tmp_path / "in.png")
    ended, lines = on_terminal([*words], columns, tmp_path)
    assert ended == code, "\n".join(lines)
    assert [line for line in lines if len(line) > columns and not may_be_long(line)] == []
    assert sum(map(len, lines)) > 10


@pytest.mark.parametrize("columns", [60, 120])
def test_help_fits(columns: int, tmp_path: Path) -> None:
    """But for the examples."""
    for name in ("", *get_command(app).commands):  # type: ignore[attr-defined]
        ended, lines = on_terminal([*([name] if name else []), "--help"], columns, tmp_path)
        assert ended == 0
        text = "\n".join(lines).split("Examples", 1)[0]
        assert [line for line in text.splitlines() if len(line) > columns] == [], name


def test_a_clock_runs_while_the_engine_is_imported(tmp_path: Path) -> None:
    code, lines = on_terminal(["generate", "a lake", *SMALL, "-o", "x.png"], 60, tmp_path)
    clocks = {line for line in lines if re.fullmatch(r"starting \S+ +[\d.]+ s", line)}
    assert code == 0
    assert len(clocks) > 1
    assert max(map(len, lines)) <= 60
    assert any("stage 0 denoise" in line and "━" in line and "left" in line for line in lines)
