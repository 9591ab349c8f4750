"""Very many options, images or prompts give a screen of text and not thousands of lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from linfusion_cli.cli.app import main

MOST_LINES = 120  # a plan with all settings has some 80
SD15 = ("generate", "a lake", "--preset", "sd15-4k", "--size", "64x64", "--steps", "1")
LORAS = [word for number in range(3000) for word in ("--lora", f"m{number}.safetensors")]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    main(list(words))
    found = capsys.readouterr()
    return [*found.out.splitlines(), *found.err.splitlines()]


def test_missing_loras(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((*SD15, "--dry-run"), SD15):
        lines = printed(capsys, *words, *LORAS)
        assert len(lines) < MOST_LINES
        assert all(len(line) < 2000 for line in lines)
        assert any("and 2,980 other" in line for line in lines)
        assert "linfusion fetch sd15-4k" in lines[-1]  # what to do is shown all the same


def test_a_series_of_images(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "generate", "a lake", "--size", "64x64", "--steps", "1", "-n", "200", "--dry-run")
    assert len(lines) < MOST_LINES
    assert "and 180 other images" in lines


def test_prompts_that_are_not_made_yet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"a lake {number}" for number in range(3000)))
    lines = printed(capsys, "batch", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), "--status")
    assert len(lines) < 30
    assert lines[-1] == "and 2,980 more missing"


def test_control_images(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [
        word for name in map(str, range(3000)) for word in ("--controlnet", name, "--control-image", f"{name}.png")
    ]
    assert len(printed(capsys, *SD15, *pairs)) < 3
