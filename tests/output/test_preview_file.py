"""The preview's file: a whole JPEG at any moment, and a disk that can't take it costs nothing but the preview."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from linfusion_cli.events import Event, Note, PreviewMade
from linfusion_cli.output.preview_file import PreviewFile, jpeg_of


def preview(width: int, height: int, level: int = 200) -> PreviewMade:
    rgb = bytes([level, 0, 0]) * (width * height)
    return PreviewMade(stage=0, done=1, total=2, width=width, height=height, rgb=rgb)


@pytest.mark.parametrize(
    ("made", "shown"), [((1024, 540), (1024, 540)), ((128, 64), (384, 192)), ((300, 2), (300, 2)), ((1, 1), (384, 384))]
)
def test_small_previews_are_enlarged_and_no_colour_changes(made: tuple[int, int], shown: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(jpeg_of(preview(*made))))
    assert (image.format, image.size) == ("JPEG", shown)
    red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
    assert abs(red - 200) < 6
    assert green < 6
    assert blue < 6


def test_a_reader_that_holds_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    told: list[Event] = []
    file = PreviewFile(tmp_path / "p.jpg", told.append)
    file.add(preview(64, 64, 10))
    with (tmp_path / "p.jpg").open("rb") as reader:
        file.add(preview(64, 64, 250))
        old = Image.open(io.BytesIO(reader.read()))
    new = Image.open(tmp_path / "p.jpg")
    assert old.getpixel((0, 0)) != new.getpixel((0, 0))
    assert told == []
    assert os.listdir(tmp_path) == ["p.jpg"]


def test_what_can_t_be_written_is_noted_once_and_tried_again(tmp_path: Path) -> None:
    told: list[Event] = []
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "p.jpg"
    file = PreviewFile(path, told.append)
    file.add(preview(8, 8))
    file.add(preview(8, 8))
    assert [event.text for event in told if isinstance(event, Note)] == [
        f"preview {path}: can't be written (File exists); the image is made all the same"
    ]
    (tmp_path / "file").unlink()
    file.add(preview(8, 8))
    assert path.exists()


def test_a_full_disk_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, *, durable: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("linfusion_cli.output.preview_file.write_atomically", full)
    told: list[Event] = []
    PreviewFile(tmp_path / "p.jpg", told.append).add(preview(8, 8))
    assert "No space left on device" in str(told)


def test_no_file_is_no_work() -> None:
    PreviewFile(None, lambda event: None).add(PreviewMade(stage=0, done=1, total=1, width=9, height=9, rgb=b"short"))
