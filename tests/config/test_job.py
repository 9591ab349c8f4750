"""A job is frozen, and knows every image that the user brings."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from PIL import Image

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve


def test_a_job_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve(Request(prompt="a lake")).seed = 6  # type: ignore[misc]


def test_the_images_of_a_job_are_all_that_the_user_brings(tmp_path: Path) -> None:
    assert resolve(Request(prompt="a lake")).images == ()
    for name in ("start.png", "style.png"):
        Image.new("RGB", (128, 128)).save(tmp_path / name)
    job = resolve(
        Request(
            prompt="a lake",
            size="128x128",
            init_image=tmp_path / "start.png",
            ip_adapter="builtin:landscape",
            ip_images=(tmp_path / "style.png",),
        )
    )
    assert [image.path.name for image in job.images] == ["start.png", "style.png"]


@pytest.mark.parametrize(("given", "file"), [(None, None), ("-", None), ("preview.jpg", "preview.jpg")])
def test_previews_for_events_alone_have_no_file(given: str | None, file: str | None) -> None:
    job = resolve(Request(prompt="a lake", preview=given and Path(given)))
    assert job.preview_file == (file and Path(file))
