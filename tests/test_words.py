"""Below cli/ no text spells a flag: errors name the option, and the command line prints how it is typed."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "linfusion_cli"
# A room that spells none is added here, and stays.
ROOMS = ("batch", "engine", "landscapes", "planning", "system", "training", "weights")
FLAG = re.compile(r"(?<![\w-])--[a-z]")


@pytest.mark.parametrize("room", ROOMS)
def test_no_flag_is_spelled(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    spelled = [
        f"{path.name}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FLAG.search(line)
    ]
    assert spelled == []


def test_a_spelled_flag_would_be_found() -> None:
    assert FLAG.search('raise UsageError("give --overwrite")')
    assert not FLAG.search("# -- a dash --")
