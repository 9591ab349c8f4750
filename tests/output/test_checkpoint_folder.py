"""What is kept of an unfinished image: found again, held by one, removed when done, and never in the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from linfusion_cli.errors import BusyError, OutputError
from linfusion_cli.geometry import Size
from linfusion_cli.output import checkpoint_folder
from linfusion_cli.output.atomic_file import AtomicFile
from linfusion_cli.output.checkpoint_folder import HIDDEN, CheckpointFolder, kept_seed, remove_finished, remove_old
from linfusion_cli.output.png_writer import PngWriter

KEY = "0123456789abcdef" * 4


def opened(
    folder: Path, key: str = KEY, seconds: float = 30.0, *, urgent: bool = False, told: list[str] | None = None
) -> CheckpointFolder:
    tell = (told if told is not None else []).append
    return CheckpointFolder(
        folder / "x.png", key, "the id", seconds, most_bytes=1 << 20, urgent=lambda: urgent, tell=tell
    )


def completed(path: Path, identity: str = "the id") -> None:
    """An image as a run leaves it."""
    texts = {
        "linfusion": json.dumps(
            {"id": identity, "prompt": "a lake", "seed": 1, "width": 8, "height": 8, "preset": "landscape"}
        )
    }
    with AtomicFile(path, overwrite=True) as file:
        with PngWriter(file, Size(8, 8), texts) as png:
            png.write_rows(np.zeros((8, 8, 3), np.uint8))
        file.commit()


def test_what_is_kept_is_found_by_the_next_run(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        assert keeper.find("step") == b""
        keeper.keep("step", b"one")
        keeper.keep("step", b"two")
    with opened(tmp_path, "f" * 64) as other:
        assert other.find("step") == b""
    with opened(tmp_path) as keeper:
        assert keeper.find("step") == b"two"
        keeper.clear()
    assert os.listdir(tmp_path) == []


def test_a_run_that_keeps_nothing_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        keeper.remember_seed("job", 5)
    assert os.listdir(tmp_path) == []


def test_two_runs_do_not_make_the_same_image(tmp_path: Path) -> None:
    with opened(tmp_path):
        with pytest.raises(BusyError, match="this image"):
            opened(tmp_path).__enter__()
        with opened(tmp_path, "f" * 64):
            pass


@pytest.mark.slow
def test_work_is_kept_before_more_than_the_interval_is_at_stake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoint_folder.time, "monotonic", lambda: now)
    for step_seconds in (0.5, 7.0, 12.0, 29.0, 31.0, 100.0):
        with opened(tmp_path, seconds=30.0) as keeper:
            at_stake = 0.0
            for _ in range(100):
                now += step_seconds
                at_stake += step_seconds
                assert at_stake <= max(30.0, step_seconds)
                if keeper.due(finished=False):
                    keeper.keep("step", b"")
                    at_stake = 0.0
            keeper.clear()


def test_a_signal_is_answered_with_a_checkpoint(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        assert not keeper.due(finished=False)
    with opened(tmp_path, urgent=True) as keeper:
        assert keeper.due(finished=False)
    with opened(tmp_path, seconds=0) as keeper:
        assert keeper.due(finished=False)
        assert keeper.due(finished=True)


def test_a_full_disk_costs_the_checkpoint_and_not_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    told: list[str] = []
    with opened(tmp_path, told=told) as keeper:
        keeper.keep("step", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            keeper.keep("step", b"new")
            keeper.keep("step", b"newer")
        assert keeper.find("step") == b"old"
    assert len(told) == 1
    assert "No space left" in told[0]


def test_the_seed_that_was_drawn_is_drawn_again_unless_somebody_is_at_it(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        keeper.remember_seed("job", 5)
        keeper.keep("step", b"x")
        assert kept_seed(tmp_path, "job") is None
    assert kept_seed(tmp_path, "job") == 5
    assert kept_seed(tmp_path, "other job") is None
    assert kept_seed(tmp_path / "nowhere", "job") is None
    (tmp_path / HIDDEN / KEY[:16] / "about.json").write_text("[1")
    assert kept_seed(tmp_path, "job") is None


def test_what_nobody_wants_any_more_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        keeper.keep("step", b"x")
    with opened(tmp_path, "f" * 64) as keeper:
        keeper.keep("step", b"x")
    for path in (tmp_path / HIDDEN / KEY[:16]).iterdir():
        os.utime(path, (0, 0))
    (tmp_path / HIDDEN / "journal.jsonl").write_text("")
    assert [path.name for path in remove_old(tmp_path)] == [KEY[:16]]
    assert sorted(os.listdir(tmp_path / HIDDEN)) == ["f" * 16, "journal.jsonl"]


def test_what_an_image_was_completed_after_is_removed(tmp_path: Path) -> None:
    """A kill between the image's name and the end of the run leaves its checkpoints."""
    with opened(tmp_path) as keeper:
        keeper.keep("step", b"x")
    assert remove_finished(tmp_path) == []
    completed(tmp_path / "x.png", "another id")
    assert remove_finished(tmp_path) == []
    completed(tmp_path / "x.png")
    with opened(tmp_path):
        assert remove_finished(tmp_path) == []  # it is locked
    assert remove_finished(tmp_path) == [tmp_path / HIDDEN / KEY[:16]]
    assert os.listdir(tmp_path / HIDDEN) == []


def test_what_checkpoints_are_for_is_removed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    unlink = os.unlink
    with opened(tmp_path) as keeper:
        for name in ("a", "step", "z"):
            keeper.keep(name, b"x")
        monkeypatch.setattr(
            os, "unlink", lambda path, **words: (removed.append(Path(path).name), unlink(path, **words))
        )
        keeper.clear()
    assert removed[3] == "about.json"
    assert sorted(removed[:3]) == ["a.safetensors", "step.safetensors", "z.safetensors"]


def test_an_image_that_is_made_once_more_keeps_its_checkpoints(tmp_path: Path) -> None:
    completed(tmp_path / "x.png")
    os.utime(tmp_path / "x.png", (0, 0))
    with opened(tmp_path) as keeper:
        keeper.keep("step", b"x")
    assert remove_finished(tmp_path) == []
    with opened(tmp_path) as keeper:
        assert keeper.find("step") == b"x"


def test_planted_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / HIDDEN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="link"):
        opened(tmp_path / "a").__enter__()
    (tmp_path / "b" / HIDDEN).mkdir(parents=True)
    (tmp_path / "b" / HIDDEN / KEY[:16]).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="link"):
        opened(tmp_path / "b").__enter__()
    assert os.listdir(tmp_path / "elsewhere") == []
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    with opened(tmp_path) as keeper:
        (keeper.path / "step.safetensors").symlink_to(victim)
        assert keeper.find("step") == b""
        keeper.keep("step", b"new")
        assert keeper.find("step") == b"new"
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("gone", [".linfusion", "."])
def test_a_folder_that_goes_away_while_it_is_held_fails_nothing(tmp_path: Path, gone: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with opened(folder) as keeper:
        (folder / gone).resolve().rename(tmp_path / "moved")
        keeper.clear()
    assert not (folder / HIDDEN).exists()


def test_a_file_too_large_for_this_image_is_no_checkpoint_of_it(tmp_path: Path) -> None:
    with opened(tmp_path) as keeper:
        keeper.keep("step", b"x")
        assert keeper.find("step") == b"x"
        with (keeper.path / "step.safetensors").open("r+b") as file:
            file.truncate(1 << 40)
        assert keeper.find("step") == b""
        with (keeper.path / "about.json").open("r+b") as file:
            file.truncate(1 << 40)
        assert kept_seed(tmp_path, "x") is None


@pytest.mark.parametrize("seed", ["true", "-1", "4294967296", "1.5"])
def test_a_seed_that_no_run_draws_is_not_taken(tmp_path: Path, seed: str) -> None:
    with opened(tmp_path) as keeper:
        keeper.remember_seed("job", 5)
        keeper.keep("step", b"x")
    (tmp_path / HIDDEN / KEY[:16] / "about.json").write_text(f'{{"key": "job", "seed": {seed}}}')
    assert kept_seed(tmp_path, "job") is None


@pytest.mark.parametrize(
    "about", ['{"picture": "x.png"}', '{"picture": "a\\u0000b", "id": "x"}', '{"picture": 3, "id": "x"}']
)
def test_checkpoints_of_an_image_that_nobody_knows_stay(tmp_path: Path, about: str) -> None:
    """Without an id, an image without a record would count as theirs."""
    with opened(tmp_path) as keeper:
        keeper.keep("step", b"x")
    (tmp_path / HIDDEN / KEY[:16] / "about.json").write_text(about)
    (tmp_path / "x.png").write_bytes(b"")
    remove_finished(tmp_path)
    assert (tmp_path / HIDDEN / KEY[:16]).is_dir()
