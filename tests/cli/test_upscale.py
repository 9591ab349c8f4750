"""`linfusion upscale`: the size follows the image and the scale, and what can't be is refused with the nearest."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.cli.app import main


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of 320x192; the work is done beside it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((192, 320, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def jobs(fakes: SimpleNamespace) -> list[Any]:
    """What was planned."""
    planned: list[Any] = []
    make_plan = fakes.make_plan

    def noted(job: Any, machine: Any, **_: object) -> Any:
        planned.append(job)
        return make_plan(job, machine)

    fakes.make_plan = noted
    return planned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], "640x384"),
        (["--scale", "4"], "1280x768"),
        (["--scale", "2.01"], "640x384"),
        (["--size", "640x640"], "640x640"),
    ],
)
def test_the_size_is_that_of_the_image_times_the_scale(
    photo: Path, jobs: list[Any], words: list[str], size: str
) -> None:
    assert main(["upscale", str(photo), "hills", *words, "--quiet"]) == 0
    (job,) = jobs
    assert (str(job.size), job.prompt) == (size, "hills")
    assert job.start.image.path == photo
    assert not job.start.refined


def test_a_prompt_is_not_needed(photo: Path, jobs: list[Any]) -> None:
    assert main(["upscale", str(photo), "--quiet"]) == 0
    assert jobs[0].prompt == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "2", "--size", "640x384"], "either --size or --scale"),
        (["--scale", "1"], "--scale 1: write a number above 1, up to 64. Nearest: 2"),
        (["--scale", "100"], "Nearest: 64"),
        (["--scale", "nan"], "--scale nan"),
        (["--size", "320x192"], "--size"),
    ],
)
def test_what_makes_nothing_larger_is_refused(
    photo: Path, jobs: list[Any], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", str(photo), *words]) == 2
    assert said in capsys.readouterr().err
    assert jobs == []


def test_an_image_that_is_none_is_named(photo: Path, jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    photo.write_bytes(b"no image")
    assert main(["upscale", str(photo)]) == 2
    assert "photo.png" in capsys.readouterr().err
    assert main(["upscale", "missing.png"]) == 2
    assert "missing.png" in capsys.readouterr().err
