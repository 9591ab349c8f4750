"""A dry run of a batch plans each configuration once and tells what its images have to know."""

from __future__ import annotations

from pathlib import Path

import pytest

from linfusion_cli.batch import dry_run as module
from linfusion_cli.batch.dry_run import dry_run
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.task_list import NAME_TEMPLATE, Task, make_tasks
from linfusion_cli.cli.spelling import told

pytestmark = pytest.mark.slow  # all of them together

SMALL = {"size": "128x64"}


def tasks_of(*rows: dict[str, object]) -> list[Task]:
    problems: list[str] = []
    placed = [Row(f"list:{number}", {**SMALL, **row}) for number, row in enumerate(rows, 1)]
    tasks = make_tasks(placed, {}, NAME_TEMPLATE, lambda ids: {}, problems)
    assert problems == []
    return tasks


def test_each_configuration_is_planned_once_and_notes_count_images(tmp_path: Path) -> None:
    tasks = tasks_of(
        {"prompt": "a cat", "seed": "1..3"},
        {"prompt": "a lake", "negative": "blurry"},
        {"prompt": "a cat", "negative": "blurry"},
        {"prompt": "a lake", "guidance": 0.5},
    )
    found = dry_run(tasks, tmp_path / "not-made-yet")
    assert [kind.images for kind in found.planned] == [3, 2, 1]
    assert all(kind.size == "128x64" and kind.seconds > 0 and kind.peak_bytes > 0 for kind in found.planned)
    notes = {told(note).split(". ")[0]: count for note, count in found.notes.counts()}
    assert notes == {
        "the built-in model draws landscapes alone and knows no word of the prompt": 4,
        'the built-in model ignores "blurry" in the negative prompt': 2,
        "guidance 0.5 means 1: no guidance, and the negative prompt is not used": 1,
    }
    assert found.obstacles.counts() == []
    assert not (tmp_path / "not-made-yet").exists()


def test_what_would_stop_images_is_told_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    rows = ({"prompt": "a lake", "seed": "1,2", "max_memory": "1MB"}, {"prompt": "a lake", "preset": "sdxl-4k"})
    found = dry_run(tasks_of(*rows), tmp_path)
    assert found.refused == 1
    (memory, images), (weights, one) = found.obstacles.counts()
    assert (images, one) == (2, 1)
    assert "--max-memory" in told(memory)
    assert "linfusion fetch" in told(weights)


def test_of_very_many_configurations_the_first_are_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PLANS", 1)
    found = dry_run(tasks_of({"prompt": "a lake"}, {"prompt": "a lake", "steps": 9}), tmp_path)
    assert len(found.planned) == 1
    (left_out,) = found.unplanned
    assert (left_out.images, left_out.size, left_out.preset, left_out.place) == (1, "128x64", "landscape", "list:2")


def test_a_folder_that_cannot_be_made_is_an_obstacle_of_all_images(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    tasks = tasks_of({"prompt": "a lake"}, {"prompt": "a lake", "seed": 4})
    for folder in ("file", "file/inside", "loop", "loop/inside"):
        ((obstacle, images),) = dry_run(tasks, tmp_path / folder).obstacles.counts()
        assert "is not a folder" in obstacle
        assert images == 2
