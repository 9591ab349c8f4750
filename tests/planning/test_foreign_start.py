"""A photo that the built-in model goes on from has a note with its strength and the presets for any image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.foreign_start import foreign_start_note


def note(**values: Any) -> str:
    job = resolve(Request(**{"prompt": "a lake", "seed": 1, "size": "256x256", **values}))
    found = foreign_start_note(job)
    return told(found) if found else ""


def test_the_note_names_the_strengths_that_are_set(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    presets = "For any image: --preset sd15-4k or sd21-4k or sdxl-4k"
    start = "photo.png: the built-in model draws landscapes alone, and has not drawn this image. "
    upscaled = note(upscale_image=photo)
    assert upscaled.startswith(f"IMAGE {start}")
    assert upscaled.endswith(f"--upscale-strength 0.05 keeps its shapes; fine detail is lost. {presets}")
    started = note(init_image=photo)
    assert started.startswith(f"--init-image {start}")
    assert " keep its shapes" in started
    assert "Above a strength of about 0.1 landscapes take its place" in note(upscale_image=photo, upscale_strength=0.4)


def test_nothing_is_said_without_an_image_or_with_another_model(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    assert note() == ""
    assert note(upscale_image=photo, preset="sd15-4k", size="2048x2048") == ""
