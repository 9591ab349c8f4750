"""The record inside an image says which model drew it; anything else says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from PIL import Image, PngImagePlugin

from linfusion_cli.images.opening import opened
from linfusion_cli.images.own_record import drawn_by
from linfusion_cli.output.formats.exif_xmp import xmp_packet

RECORD: dict[str, object] = {"prompt": "a & b", "settings": {"model": {"repositories": ["builtin:landscape"]}}}


def saved(path: Path, text: str) -> Path:
    image = Image.new("RGB", (8, 8))
    if path.suffix == ".png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("linfusion", text)
        image.save(path, pnginfo=texts)
    else:
        image.save(path, xmp=xmp_packet({"linfusion": text, "parameters": "a"}))
    return path


def read(path: Path) -> tuple[str, ...]:
    with opened(path) as image:
        return drawn_by(image)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_the_model_of_the_record_is_named(tmp_path: Path, ending: str) -> None:
    assert read(saved(tmp_path / f"a.{ending}", json.dumps(RECORD))) == ("builtin:landscape",)


@pytest.mark.parametrize("more", [{"upscaled": "cat.png"}, {"images": {"cat.png": "0" * 64}}])
def test_what_was_made_of_another_image_was_not_drawn_by_the_model(tmp_path: Path, more: dict[str, object]) -> None:
    assert read(saved(tmp_path / "a.png", json.dumps({**RECORD, **more}))) == ()
    assert read(saved(tmp_path / "b.png", json.dumps({**RECORD, "upscaled": "", "images": {}}))) != ()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 5000, '{"settings": {"model": 3}}', '{"settings": {}}', escape("<a>")]
)
def test_a_strangers_record_says_nothing(tmp_path: Path, text: str) -> None:
    assert read(saved(tmp_path / "a.png", text)) == ()
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert read(tmp_path / "plain.png") == ()
