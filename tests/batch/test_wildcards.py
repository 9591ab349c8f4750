"""Wildcard files: the seed chooses, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.task_list import NAME_TEMPLATE, make_tasks
from linfusion_cli.batch.wildcards import Wildcards
from linfusion_cli.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "animal.txt": "# animals\ncat\n\ndog\r\nfox\n",
        "sub/colour.txt": "{light|dark} red\nblue\n",
        "both.txt": "__sub/colour__ __animal__\n",
        "loop.txt": "__loop__\n",
        "empty.txt": "# nothing\n",
        "odd.txt": "\ufeffn\xfcn\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_seed_chooses(folder: Path) -> None:
    wildcards = Wildcards(folder)
    made = {wildcards.filled("a __animal__", seed) for seed in range(50)}
    assert made == {"a cat", "a dog", "a fox"}
    assert {Wildcards(folder).filled("a __both__", seed) for seed in range(200)} == {
        f"a {colour} {animal}" for colour in ("light red", "dark red", "blue") for animal in ("cat", "dog", "fox")
    }
    assert [Wildcards(folder).filled("a __both__", 7) for _ in range(3)] == [wildcards.filled("a __both__", 7)] * 3
    assert {wildcards.filled("__animal__ __animal__", seed) for seed in range(50)} > {"cat dog", "cat cat"}
    assert wildcards.filled("__odd__ a__b __init __ x__", 1) == "n\xfcn a__b __init __ x__"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("__animals__", 'Did you mean "animal"'),
        ("__zzz__", "Allowed: animal, both, empty, loop, odd, sub/colour"),
        ("__loop__", "without end"),
        ("__empty__", "has no line"),
        ("__sub__", "there is no"),
    ],
)
def test_wildcards_that_can_not_be_are_refused(folder: Path, prompt: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Wildcards(folder).filled(prompt, 1)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Wildcards(tmp_path / "none")


def test_a_name_does_not_leave_the_folder(folder: Path) -> None:
    assert Wildcards(folder).filled("__../secret__ __/etc/passwd__", 1) == "__../secret__ __/etc/passwd__"


def tasks_of(folder: Path, *rows: Mapping[str, object]) -> list[tuple[str, int, str]]:
    problems: list[str] = []
    made = make_tasks(
        [Row(f"list:{i}", row) for i, row in enumerate(rows, 1)],
        {"size": "64x64"},
        NAME_TEMPLATE,
        Journal(Path("/nonexistent")).numbers,
        problems,
        wildcards=Wildcards(folder),
    )
    assert problems == []
    return [(task.prompt, task.seed, task.id) for task in made]


def test_the_same_list_gives_the_same_images(folder: Path) -> None:
    seedless = {"prompt": "a __animal__", "count": 8}
    first = tasks_of(folder, seedless, {"prompt": "a __animal__", "seed": "1..20"})
    assert first == tasks_of(folder, seedless, {"prompt": "a __animal__", "seed": "1..20"})
    assert {prompt for prompt, _, _ in first} == {"a cat", "a dog", "a fox"}
    assert set(tasks_of(folder, {"prompt": "a __animal__", "seed": "20..30"})) & set(first) == {
        task for task in first if task[1] == 20
    }


def test_a_line_of_many_choices_gives_all_of_them(tmp_path: Path) -> None:
    """Lines of more than 1,000 texts gave the first thousand alone."""
    (tmp_path / "word.txt").write_text("{a|b}" * 12)
    made = {Wildcards(tmp_path).filled("__word__", seed) for seed in range(200)}
    assert {text[0] for text in made} == {"a", "b"}
    assert len(made) > 150
