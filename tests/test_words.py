"""Below cli/ no text spells a flag: errors name the option, and the command line prints how it is typed."""

import ast
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


# docs/terms.md: one word for each thing. What was called otherwise once must not come back.
FILES = sorted(PACKAGE.rglob("*.py"))
ROOT = PACKAGE.parent
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")), *sorted((ROOT / "presets").glob("*"))]
WITH_HISTORY = ("log.md", "terms.md", "CHANGELOG.md")  # what things were called, and what they are not called
# Word that is gone -> the rooms where it would mean another thing than docs/terms.md says; "" is everywhere.
GONE = {
    r"ledgers?": ("",),
    r"shel(f|ves)": ("",),
    r"in the way": ("",),
    r"would stop it": ("",),
    r"needs_of|Need": ("",),
    r"sweeps?": ("output", "batch", "system"),
    r"child(ren)?": ("batch",),
    r"readers?": ("engine/components", "engine/adapters", "engine/loading"),
    r"rooms?": ("planning", "engine/memory", "engine/streaming"),
    r"strips?": ("planning", "engine"),
    r"pictures?": ("engine", "planning", "render.py", "api.py", "cli", "batch", "images", "weights", "system"),
}
METHOD_OF_STR = re.compile(r"\.[lr]?strip\(")


def lines_with(pattern: str, path: Path) -> list[str]:
    word = re.compile(rf"(?<![A-Za-z.])({pattern})(?![A-Za-z])")
    lines = enumerate(path.read_text().splitlines(), 1)
    name = path.relative_to(ROOT)
    return [f"{name}:{number}: {line.strip()}" for number, line in lines if word.search(METHOD_OF_STR.sub("(", line))]


@pytest.mark.parametrize(("pattern", "rooms"), GONE.items(), ids=GONE)
def test_a_word_that_is_gone_stays_away(pattern: str, rooms: tuple[str, ...]) -> None:
    places = [path for path in FILES if path.relative_to(PACKAGE).as_posix().startswith(rooms)]
    places += [path for path in DOCUMENTS if "" in rooms and path.name not in WITH_HISTORY]
    assert places
    assert [line for path in places for line in lines_with(pattern, path)] == []


def names_in(path: Path) -> set[str]:
    """Every name that a module gives to something or asks for."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names |= {getattr(node, field, None) for field in ("id", "arg", "attr", "name")} - {None}  # type: ignore[arg-type]
    return names


def test_weights_have_locations_and_no_places() -> None:
    """A place is where a prompt stands in a list ("prompts.txt:3"), or where something lies in a landscape."""
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in FILES
        if not path.is_relative_to(PACKAGE / "batch") and not path.is_relative_to(PACKAGE / "landscapes")
        for name in names_in(path)
        if re.search(r"(?<![a-z])places?(?![a-z])", name.replace("in_place", "").lower())
    }
    assert found == {"cli/batch.py: place", "cli/batch_display.py: place"}


def test_json_names_locations() -> None:
    keys = [line for path in FILES for line in lines_with("[\"'](places|PLACE)[\"']", path)]
    assert keys == []
