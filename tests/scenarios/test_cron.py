"""The examples of docs/cron.md work as they stand."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cron.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def cron_command(line: str) -> tuple[str, str]:
    """A crontab(5) line: five fields, then the command up to the first bare %, the rest as its input."""
    command = line.split(maxsplit=5)[5]
    parts = re.split(r"(?<!\\)%", command)
    return parts[0].replace("\\%", "%"), "\n".join(parts[1:])


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A home folder, and a `linfusion` on the path with a stand-in for torch that makes small images."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "pictures").mkdir()
    command = tmp_path / "bin" / "linfusion"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/stand_in.py" cli "$@" --size 64x64\n')
    command.chmod(0o755)
    (tmp_path / "pictures" / "nightly.txt").write_text("100 % lake\na hill\n")
    (tmp_path / "pictures" / "morning.txt").write_text("50 % fog\n")
    return {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "STAND_IN_FAULTS": str(tmp_path),
    }


def test_the_crontab_lines_print_nothing_and_make_images(home: dict[str, str]) -> None:
    (table,) = blocks("crontab")
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        command, rest = cron_command(line)
        assert rest == ""
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=home, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    images = Path(home["HOME"]) / "pictures"
    assert len(list((images / "out").glob("*.png"))) == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\.png", next(images.glob("*.png")).name)
    assert len(re.findall(r"^\d{4}-\d\d-\d\dT[\d:]+[+-]\d{4} ", (images / "batch.log").read_text(), re.MULTILINE)) >= 5


def test_a_start_that_finds_another_one_at_work_sends_no_mail(home: dict[str, str]) -> None:
    line = next(text for text in blocks("sh") if text.startswith("said="))
    command = Path(home["HOME"]) / "bin" / "linfusion"
    for code, said in ((75, ""), (74, "the disk is full\n"), (0, "")):
        command.write_text(f"#!/bin/sh\n[ {code} = 0 ] || echo 'the disk is full' >&2\nexit {code}\n")
        done = subprocess.run(
            ["/bin/sh", "-c", line], env=home, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.stderr) == (said, "")


def test_a_bare_percent_would_have_cut_the_command() -> None:
    assert cron_command('0 7 * * * linfusion generate "100 % lake"') == ('linfusion generate "100 ', ' lake"')


def test_the_units_are_units_and_their_command_runs(home: dict[str, str], tmp_path: Path) -> None:
    service, timer = blocks("ini")
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(service)
    command = parsed["Service"]["ExecStart"].replace("%h", home["HOME"])
    done = subprocess.run(command.split(), env=home, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if shutil.which("systemd-analyze"):
        (tmp_path / "linfusion.service").write_text(
            service.replace("ExecStart=linfusion", f"ExecStart={home['HOME']}/bin/linfusion")
        )
        (tmp_path / "linfusion.timer").write_text(timer)
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(tmp_path / "linfusion.timer")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **home},
        )
        assert "linfusion" not in checked.stderr


def test_a_log_is_begun_anew_before_it_grows_large(home: dict[str, str]) -> None:
    images = Path(home["HOME"]) / "pictures"
    (images / "batch.log").write_text("x" * (5 << 20))
    words = ["linfusion", "batch", "nightly.txt", "-o", "out", "--quiet", "--log-file", "batch.log"]
    done = subprocess.run(words, env=home, cwd=images, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (images / "batch.log.1").stat().st_size == 5 << 20
    assert (images / "batch.log").stat().st_size < 10_000
