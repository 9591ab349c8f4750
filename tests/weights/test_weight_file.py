"""WeightFile: found once, refused by name when it is another file later."""

import os
import pickle
from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.weight_file import WeightFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"12345678")
    return file


def resolved(path: Path) -> WeightFile:
    return WeightFile.resolve(("nobody/nothing", str(path)), "", "lora")


def test_the_first_location_on_this_machine_is_taken(path: Path) -> None:
    weights = resolved(path)
    assert weights.open() == path
    assert pickle.loads(pickle.dumps(weights)) == weights


def test_missing_weights_are_named_with_the_command_that_fetches_them() -> None:
    weights = WeightFile.resolve(("nobody/nothing",), "v2", "lora")
    with pytest.raises(WeightsError, match=r"nobody/nothing.*linfusion fetch lora=.nobody/nothing@v2"):
        weights.open()


@pytest.mark.parametrize("change", ["size", "time", "gone", "renamed in a folder"])
def test_changed_weights_are_named(path: Path, change: str) -> None:
    inside = change == "renamed in a folder"
    weights = resolved(path.parent if inside else path)
    if change == "size":
        path.write_bytes(b"123456789")
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("b.safetensors"))
    with pytest.raises(WeightsError, match=r"these weights changed since the plan was made\. Plan again") as caught:
        weights.open()
    assert str(path.parent if inside else path) in str(caught.value)


def test_weights_that_came_since_are_no_part_of_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "late.safetensors"
    weights = resolved(path)
    path.write_bytes(b"1")
    with pytest.raises(WeightsError, match=r"late\.safetensors: these weights changed since the plan was made"):
        weights.open()


def test_built_in_weights_have_no_other_version() -> None:
    weights = WeightFile.resolve(("builtin:landscape",), "", "model")
    assert weights.stamp == ""
    assert weights.open().is_dir()


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(WeightsError, match="pickle"):
        resolved(tmp_path / "a.ckpt")
