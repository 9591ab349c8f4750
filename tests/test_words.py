"""Below cli/ no text spells a flag: errors name the option, and the command line prints how it is typed."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "linfusion_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
# How a word becomes a flag, for the command line and for the command in a record; it names no option.
GRAMMAR = PACKAGE / "flag_words.py"
FLAG = re.compile(r"(?<![\w-])--(?:no-)?(?:\{|[a-z][a-z-]*)")


@cache
def own_flags() -> frozenset[str]:
    """Every flag of every command."""
    from typer.main import get_command

    from linfusion_cli.cli.app import app

    commands: list[Any] = [get_command(app)]
    flags: set[str] = set()
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            flags |= {word for word in [*parameter.opts, *parameter.secondary_opts] if word.startswith("--")}
    return frozenset(flags)


def spelled(text: str) -> list[str]:
    """The flags of linfusion that a text spells, and those that it puts together; other programs have their own."""
    return [flag for flag in FLAG.findall(text) if flag.endswith("{") or flag in own_flags()]


def test_no_flag_is_spelled_below_the_command_line() -> None:
    """Neither in messages nor in comments: an option has a name here, and a flag on the command line alone."""
    below = [path for path in FILES if not path.is_relative_to(PACKAGE / "cli") and path != GRAMMAR]
    assert {path.parent.name for path in below} > {"batch", "config", "distill", "evaluate", "output", "weights"}
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in below
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if spelled(line)
    ]
    assert found == []


def test_a_spelled_flag_would_be_found() -> None:
    assert {"--lora", "--size", "--offline", "--no-pyramid"} <= own_flags()
    assert spelled('raise UsageError("give --overwrite")') == ["--overwrite"]
    assert spelled('yield f"--no-{word}"') == ["--no-{"]
    assert spelled('f"--{word}"') == ["--{"]
    assert spelled("# -- a dash --, pip install --upgrade, docker run --gpus all") == []


# docs/terms.md: one word for each thing. What was called otherwise once must not come back.
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
    r"pictures?": (
        *("engine", "planning", "render.py", "api.py", "cli", "batch", "images", "weights", "system"),
        *("distill", "training", "viewer", "convert", "file_formats.py"),
    ),
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
        found = (getattr(node, field, None) for field in ("id", "arg", "attr", "name"))
        names |= {name for name in found if name is not None}
    return names


@pytest.mark.slow
def test_weights_have_locations_and_no_places() -> None:
    """A place is where a prompt stands in a list ("prompts.txt:3"), or where something lies in a landscape."""
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in FILES
        if not path.is_relative_to(PACKAGE / "batch") and not path.is_relative_to(PACKAGE / "landscapes")
        for name in names_in(path)
        if re.search(r"(?<![a-z])places?(?![a-z])", name.replace("in_place", "").lower())
    }
    assert found == {f"cli/{name}.py: place" for name in ("batch", "batch_display", "task_start")}


def test_json_names_locations() -> None:
    keys = [line for path in FILES for line in lines_with("[\"'](places|PLACE)[\"']", path)]
    assert keys == []
