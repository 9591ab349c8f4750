"""What goes into PngWriter comes out of Pillow, whatever the size and however the rows arrive."""

from __future__ import annotations

import io
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from png_samples import Pixels, encode, image, saved

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.output import png_writer
from linfusion_cli.output.png_reader import check, read_text_chunks
from linfusion_cli.output.png_writer import PngWriter, adler32_combine, largest_bytes

pytestmark = pytest.mark.slow  # all of them together


def decode(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 80), st.integers(1, 3000), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_any_size_comes_back_equal(width: int, height: int, arrival: int, strip_bytes: int, seed: int) -> None:
    pixels = image(width, height, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_writer, "STRIP_BYTES", strip_bytes)
        data = encode(pixels, arrival)
        assert data == encode(pixels), "the file depends on how the rows arrive"
        assert len(data) <= largest_bytes(Size(width, height))
    assert np.array_equal(decode(data), pixels)


@pytest.mark.parametrize("installed", [True, False])
def test_both_deflaters_write_the_same_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if installed:
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 1000)
    assert png_writer.deflater().name == ("isal" if installed else "zlib")
    pixels = image(50, 60)
    data = encode(pixels)
    assert np.array_equal(decode(data), pixels)
    assert check(saved(tmp_path, data)) == Size(50, 60)


def test_the_number_of_threads_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 300)
    pixels = image(40, 90)
    assert len({encode(pixels, threads=threads) for threads in (1, 2, 5)}) == 1


def test_a_caller_may_reuse_its_rows() -> None:
    pixels, sink = image(9, 6), io.BytesIO()
    buffer = np.empty((2, 9, 3), np.uint8)
    with PngWriter(sink, Size(9, 6)) as writer:
        for top in range(0, 6, 2):
            buffer[:] = pixels[top : top + 2]
            writer.write_rows(buffer)
            buffer[:] = 0
    assert np.array_equal(decode(sink.getvalue()), pixels)


def test_rows_may_lie_anyhow_in_memory() -> None:
    pixels = image(9, 6)[::-1, ::-1]
    assert np.array_equal(decode(encode(pixels)), pixels)


def test_the_colour_space_is_named() -> None:
    with Image.open(io.BytesIO(encode(image(4, 4)))) as opened:
        assert opened.info["srgb"] == 0


class Counter:
    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: bytes, /) -> None:
        self.size_bytes += len(data)


def peak_bytes(height: int) -> int:
    rows = image(256, 16)
    tracemalloc.start()
    try:
        with PngWriter(Counter(), Size(256, height), threads=2) as writer:
            for _ in range(height // 16):
                writer.write_rows(rows)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("height", [1 << 10, 1 << 14])
def test_memory_does_not_grow_with_the_height(monkeypatch: pytest.MonkeyPatch, height: int) -> None:
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 1 << 16)
    assert peak_bytes(height) < 32 * (1 << 16)  # the images have 12 and 192 strips


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 5, 3), np.uint8),
        ((2, 4, 4), np.uint8),
        ((2, 12), np.uint8),
        ((4, 3), np.uint8),
        ((2, 4, 3), np.float32),
        ((7, 4, 3), np.uint8),
    ],
)
def test_rows_of_the_wrong_kind_are_refused(shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    writer = PngWriter(io.BytesIO(), Size(4, 6))
    with pytest.raises(ValueError, match=r"rows must be uint8|6 rows, 7 were given"):
        writer.write_rows(np.zeros(shape, dtype))


def test_missing_rows_are_told() -> None:
    writer = PngWriter(io.BytesIO(), Size(4, 6))
    writer.write_rows(np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="6 rows, only 5"):
        writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write_rows(np.zeros((1, 4, 3), np.uint8))


@pytest.mark.parametrize("size", [Size(0, 4), Size(4, 0), Size(1 << 31, 4)])
def test_sizes_that_no_png_has_are_refused(size: Size) -> None:
    with pytest.raises(ValueError, match="can't be"):
        PngWriter(io.BytesIO(), size)


class FullDisk:
    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def write(self, data: bytes, /) -> None:
        self.room_bytes -= len(data)
        if self.room_bytes < 0:
            raise OutputError("full")


def test_an_error_of_the_sink_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_writer, "STRIP_BYTES", 500)
    writer = PngWriter(FullDisk(1000), Size(40, 500))
    with pytest.raises(OutputError, match="full"), writer:
        writer.write_rows(image(40, 500))


def test_an_error_of_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise MemoryError("no room")

    monkeypatch.setattr(png_writer, "deflater", lambda: png_writer.Deflater("failing", "for the test", fail))
    with pytest.raises(MemoryError, match="no room"):
        encode(image(4, 4))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_adler_sums_combine(first: bytes, second: bytes) -> None:
    assert adler32_combine(zlib.adler32(first), zlib.adler32(second), len(second)) == zlib.adler32(first + second)


def test_adler_sums_of_long_strips_combine() -> None:
    strip = b"\xff" * 1_000_003
    assert adler32_combine(zlib.adler32(strip), zlib.adler32(strip), len(strip)) == zlib.adler32(strip + strip)


@given(
    st.dictionaries(
        st.sampled_from(["a", "linfusion", "two words", "é"]),
        st.text(st.characters(exclude_characters="\0"), max_size=200),
    )
)
@settings(max_examples=40, deadline=None)
def test_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]) -> None:
    data = encode(image(2, 2), texts=texts)
    expected = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in texts.items()}
    assert read_text_chunks(saved(tmp_path_factory.mktemp("texts"), data)) == expected
    with Image.open(io.BytesIO(data)) as opened:
        assert isinstance(opened, PngImagePlugin.PngImageFile)
        assert opened.text == expected


def test_a_lone_surrogate_becomes_visible(tmp_path: Path) -> None:
    assert read_text_chunks(saved(tmp_path, encode(image(2, 2), texts={"a": "x\udc80y"}))) == {"a": "x\\udc80y"}


@pytest.mark.parametrize("keyword", ["", "k" * 80, " a", "a ", "a  b", "a\0b", "a\nb", "日", "a\xa0b\x7f"])
def test_keywords_that_are_not_allowed_are_refused(keyword: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        PngWriter(io.BytesIO(), Size(2, 2), {keyword: "text"})


@pytest.mark.parametrize(
    ("text", "reason"), [("a\0b", "NUL"), ("é" * (1 << 17) + "a", "262,145 bytes long; at most 262,144")]
)
def test_texts_that_do_not_fit_are_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PngWriter(io.BytesIO(), Size(2, 2), {"a": text})
