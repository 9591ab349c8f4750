"""One of our images is read to its last pixel, and whatever is wrong with it is told; texts are read of any PNG."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from png_samples import encode, image, saved

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.output import png_reader, png_writer
from linfusion_cli.output.png_reader import check, read_text, read_text_chunks


def test_texts_of_other_programs_are_read(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("plain", "caf\xe9")
    info.add_text("zipped", "z" * 5000, zip=True)
    info.add_itxt("international", "日本", "ja", "国際", zip=True)
    path = tmp_path / "a.png"
    Image.new("L", (3, 3)).save(path, pnginfo=info)
    assert read_text_chunks(path) == {"plain": "caf\xe9", "zipped": "z" * 5000, "international": "日本"}


def with_chunks(*bodies: bytes) -> bytes:
    """An image with these chunks behind its header; a body begins with the chunk's type."""
    data = encode(image(2, 2))
    chunks = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in bodies)
    return data[:33] + b"".join(chunks) + data[33:]


def test_a_text_bomb_is_refused(tmp_path: Path) -> None:
    bomb = b"zTXtbomb\0\0" + zlib.compress(b"\0" * (2 << 20))
    with pytest.raises(UsageError, match="inflates to over"):
        read_text_chunks(saved(tmp_path, with_chunks(bomb)))


def test_many_texts_are_limited_in_sum(tmp_path: Path) -> None:
    texts = [b"tEXta\0" + b"x" * (png_reader.READ_TEXT_BYTES - 10)] * 5
    with pytest.raises(UsageError, match="in sum"):
        read_text_chunks(saved(tmp_path, with_chunks(*texts)))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"tEXtno end of the keyword", "no keyword"),
        (b"iTXta\0\0\0no language", "broken"),
        (b"zTXta\0\0not deflated", "Can't read the texts"),
        (b"iTXta\0\0\0\0\0\xff", "Can't read the texts"),  # not UTF-8
        (b"tEXta\0" + b"x" * (1 << 20), "at most 1,048,576"),
    ],
    ids=["keyword", "language", "deflate", "utf-8", "long"],
)
def test_a_broken_text_is_told_and_does_not_hide_another(tmp_path: Path, body: bytes, reason: str) -> None:
    path = saved(tmp_path, with_chunks(body, b"tEXtb\0fine"))
    with pytest.raises(UsageError, match=reason):
        read_text_chunks(path)
    assert read_text(path, "b") == "fine"


def test_the_first_text_of_a_keyword_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, with_chunks(b"tEXtab\0longer keyword", b"tEXta\0first", b"tEXta\0second"))
    assert read_text(path, "a") == "first"
    assert read_text(path, "missing") is None


def test_a_whole_image_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 500)
    monkeypatch.setattr(png_reader, "PIECE_BYTES", 64)
    assert check(saved(tmp_path, encode(image(30, 40), texts={"a": "b"}))) == Size(30, 40)


def test_an_image_of_16_bits_passes(tmp_path: Path) -> None:
    assert check(saved(tmp_path, encode(image(7, 5).astype(np.uint16) * 257, bits=16))) == Size(7, 5)


def test_images_of_other_programs_do_not_pass_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (4, 4)).save(path)
        with pytest.raises(OutputError, match="not a truecolour PNG as linfusion writes them"):
            check(path)


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 30)
    data = encode(image(5, 6), texts={"a": "b"})
    for index in range(len(data)):
        for damaged in (data[:index], data[:index] + bytes([data[index] ^ 0x10]) + data[index + 1 :]):
            with pytest.raises(OutputError, match="is damaged"):
                check(saved(tmp_path, damaged))
    with pytest.raises(OutputError, match="5 bytes follow its end"):
        check(saved(tmp_path, data + b"\0" * 5))


def with_height(data: bytes, height: int) -> bytes:
    body = data[12:20] + struct.pack(">I", height) + data[24:29]
    return data[:12] + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


@pytest.mark.parametrize(("height", "reason"), [(5, "more pixels"), (7, "pixels are missing"), (0, "not a truecolour")])
def test_a_header_that_lies_is_found(tmp_path: Path, height: int, reason: str) -> None:
    with pytest.raises(OutputError, match=reason):
        check(saved(tmp_path, with_height(encode(image(4, 6)), height)))


def test_a_stream_without_its_checksum_is_found(tmp_path: Path) -> None:
    data = encode(image(4, 6))
    start = data.index(b"IDAT")
    body = data[start:-20]  # without the sum of the pixels (4), the chunk's own (4) and IEND (12)
    shortened = (
        data[: start - 4] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[-12:]
    )
    with pytest.raises(OutputError, match="pixels are missing"):
        check(saved(tmp_path, shortened))


def test_a_file_that_is_not_there_or_no_png_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        check(tmp_path / "missing.png")
    with pytest.raises(UsageError, match="No such file"):
        read_text_chunks(tmp_path / "missing.png")
    with pytest.raises(UsageError, match="not a PNG"):
        read_text_chunks(saved(tmp_path, b"GIF89a"))
