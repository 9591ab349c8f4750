"""The man pages are what the commands make, hold every flag, and are read without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from linfusion_cli.cli.app import app
from linfusion_cli.cli.man_pages import man_pages

FOLDER = Path(__file__).parents[2] / "man"
PAGES = sorted(FOLDER.glob("*.1"))
REQUESTS = {'\\"', "TH", "SH", "SS", "B", "BR", "TP", "PP", "nf", "fi"}
CHECKS = {"mandoc": ["mandoc", "-T", "lint", "-W", "warning"], "groff": ["groff", "-man", "-Tutf8", "-ww", "-z"]}


def test_the_pages_are_what_the_commands_make() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES} == man_pages(), "make man"


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_flag_is_in_the_page_of_its_command(path: Path) -> None:
    command: Any = get_command(app)
    for word in path.stem.split("-")[1:]:
        command = command.commands[word]
    text = path.read_text().replace("\\-", "-")
    flags = {flag for one in command.params for flag in one.opts if flag.startswith("--")}
    assert {flag for flag in flags if not re.search(rf"{re.escape(flag)}\b", text)} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_only_known_requests_begin_a_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert {re.split(r"[ \n]", line[1:], maxsplit=1)[0] for line in lines if line.startswith((".", "'"))} <= REQUESTS
    assert path.read_text().isascii()


@pytest.mark.parametrize("tool", CHECKS)
def test_readers_of_man_pages_have_no_complaint(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for path in PAGES:
        done = subprocess.run([*CHECKS[tool], path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
