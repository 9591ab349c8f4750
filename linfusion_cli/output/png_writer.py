"""Rows of pixels in, a PNG out, in memory that does not grow with the height."""

from __future__ import annotations

import importlib
import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from linfusion_cli.errors import UsageError
from linfusion_cli.file_formats import CHANNELS
from linfusion_cli.geometry import Size
from linfusion_cli.png_chunks import SIGNATURE

Pixels = npt.NDArray[np.uint8]
AnyPixels = npt.NDArray[Any]  # uint8 or uint16

STRIP_BYTES = 4 << 20  # of pixels in one strip: the file depends on it, not on how the rows arrive
TEXT_BYTES = 256 << 10  # of one text chunk that is written
UP_FILTER = 2
MOST_THREADS = 8
METRES_PER_INCH = 0.0254
_NOT_TEXT = re.compile(r"[^\n -~\xa0-\xff]")  # what no tEXt chunk may hold (PNG specification, 11.3.3.2)
_ADLER_BASE = 65521


class Sink(Protocol):
    """What an image is written to; write() takes all of the data."""

    def write(self, data: bytes, /) -> object: ...


class Compressor(Protocol):
    """The part of zlib's compressobj that a strip needs."""

    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Deflater:
    """A way to deflate, and why it was chosen."""

    name: str
    reason: str
    start: Callable[[], Compressor]


def deflater() -> Deflater:
    """The fastest way to deflate that is installed."""
    try:
        isal = importlib.import_module("isal.isal_zlib")
    except ImportError:
        return Deflater("zlib", "isal is not installed", lambda: zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS))
    return Deflater(
        "isal", "isal is installed", lambda: cast(Compressor, isal.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS))
    )


@dataclass(frozen=True, slots=True)
class PngOptions:
    """bits: 8 or 16 per channel; dpi: dots per inch, 0 for none said; icc: a profile, none for sRGB."""

    bits: int = 8
    dpi: int = 0
    icc: bytes = b""

    @property
    def pixel_bytes(self) -> int:
        return CHANNELS * self.bits // 8


def largest_bytes(size: Size, bits: int = 8) -> int:
    """The most bytes that an image of size (px) with two full texts can take: pixels that don't compress at all."""
    row_bytes = size.width * CHANNELS * bits // 8
    raw_bytes = size.height * (row_bytes + 1)
    strips = -(-size.height // _strip_rows(row_bytes))
    return raw_bytes + raw_bytes // 1000 + 256 * strips + 2 * TEXT_BYTES + 1024


class PngWriter:
    """Writes a truecolour PNG of 8 or 16 bits per channel to sink while its rows come in, top to bottom.

    size is in pixels. The texts come before the pixels, as tEXt chunks, or iTXt where Latin-1 does not do. Rows are
    gathered into strips of a fixed size, which threads filter and deflate; a few strips at a time are in memory. As a
    context manager it closes itself, and drops what is pending when the body fails. Raises ValueError for a size that
    no PNG has and for keywords that are not allowed, UsageError for a text that holds NUL or is too long.
    """

    def __init__(
        self,
        sink: Sink,
        size: Size,
        texts: Mapping[str, str] | None = None,
        threads: int | None = None,
        options: PngOptions = PngOptions(),
    ) -> None:
        if not (0 < size.width < 1 << 31 and 0 < size.height < 1 << 31):
            raise ValueError(f"a PNG can't be {size} pixels")
        opening = [
            SIGNATURE,
            _header(size, options.bits),
            _icc_chunk(options.icc) if options.icc else _chunk(b"sRGB", b"\0"),
            _dpi_chunk(options.dpi) if options.dpi else b"",
            *(_text_chunk(keyword, text) for keyword, text in (texts or {}).items()),
        ]
        threads = min(MOST_THREADS, os.cpu_count() or 1) if threads is None else threads
        self.deflater = deflater()
        self.size = size
        self._dtype = np.dtype(np.uint16 if options.bits == 16 else np.uint8)
        self._row_bytes = size.width * options.pixel_bytes
        self._sink = sink
        self._pool = ThreadPoolExecutor(max(2, threads), "png")
        self._pending: deque[Future[_Strip]] = deque()
        self._most_pending = max(2, threads) + 1
        self._strip = self._new_strip(size.height)
        self._filled_rows = 0
        self._taken_rows = 0
        self._above: Pixels = np.zeros(self._row_bytes, np.uint8)
        self._adler = 1
        self._first = True
        self._closed = False
        sink.write(b"".join(opening))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stop()

    def write_rows(self, rows: AnyPixels) -> None:
        """Takes the next rows: uint8, or uint16 for 16 bits, (rows, width, 3). They are copied.

        Raises ValueError for another shape or dtype, for more rows than the image has, and after close().
        """
        self._check(rows)
        flat = _big_endian(rows).reshape(rows.shape[0], self._row_bytes)
        while len(flat):
            count = min(len(flat), len(self._strip) - self._filled_rows)
            self._strip[self._filled_rows : self._filled_rows + count] = flat[:count]
            self._filled_rows += count
            self._taken_rows += count
            flat = flat[count:]
            if self._filled_rows == len(self._strip):
                self._submit()

    def close(self) -> None:
        """Writes the rest and the end of the image; leaves the sink open. Raises ValueError when rows are missing."""
        if self._closed:
            return
        try:
            if self._taken_rows < self.size.height:
                raise ValueError(f"the image has {self.size.height} rows, only {self._taken_rows} were written")
            while self._pending:
                self._write_strip()
            self._sink.write(_chunk(b"IEND", b""))
        finally:
            self._stop()

    def _check(self, rows: AnyPixels) -> None:
        if self._closed:
            raise ValueError("the image is closed")
        expected = (self.size.width, CHANNELS)
        if rows.dtype != self._dtype or rows.ndim != 3 or rows.shape[1:] != expected:
            allowed = f"{self._dtype} (rows, {self.size.width}, {CHANNELS})"
            raise ValueError(f"rows must be {allowed}, not {rows.dtype} {rows.shape}")
        if self._taken_rows + len(rows) > self.size.height:
            raise ValueError(f"the image has {self.size.height} rows, {self._taken_rows + len(rows)} were given")

    def _new_strip(self, left_rows: int) -> Pixels:
        return np.empty((min(left_rows, _strip_rows(self._row_bytes)), self._row_bytes), np.uint8)

    def _submit(self) -> None:
        strip, above = self._strip, self._above
        final = self._taken_rows == self.size.height
        self._pending.append(self._pool.submit(_deflate_strip, self.deflater, strip, above, final=final))
        self._above = strip[-1].copy()  # a view would keep the whole strip alive
        self._strip = self._new_strip(self.size.height - self._taken_rows)
        self._filled_rows = 0
        while len(self._pending) >= self._most_pending:
            self._write_strip()

    def _write_strip(self) -> None:
        strip = self._pending.popleft().result()
        self._adler = adler32_combine(self._adler, strip.adler, strip.raw_bytes)
        head = b"\x78\x01" if self._first else b""
        tail = struct.pack(">I", self._adler) if strip.final else b""
        self._first = False
        self._sink.write(_chunk(b"IDAT", head + strip.deflated + tail))

    def _stop(self) -> None:
        self._closed = True
        self._pending.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)


def adler32_combine(first: int, second: int, second_bytes: int) -> int:
    """The Adler-32 of two pieces of data joined, from the checksum of each and the length of the second."""
    low = ((first & 0xFFFF) + (second & 0xFFFF) - 1) % _ADLER_BASE
    high = ((first >> 16) + (second >> 16) + second_bytes * ((first & 0xFFFF) - 1)) % _ADLER_BASE
    return high << 16 | low


@dataclass(frozen=True, slots=True)
class _Strip:
    deflated: bytes
    adler: int
    raw_bytes: int
    final: bool


def _deflate_strip(how: Deflater, strip: Pixels, above: Pixels, *, final: bool) -> _Strip:
    filtered = np.empty((len(strip), 1 + strip.shape[1]), np.uint8)
    filtered[:, 0] = UP_FILTER
    np.subtract(strip[0], above, out=filtered[0, 1:])
    np.subtract(strip[1:], strip[:-1], out=filtered[1:, 1:])
    raw = filtered.data.cast("B")
    compressor = how.start()
    # A full flush ends on a byte and forgets the past, so that the strips join into one stream.
    deflated = compressor.compress(raw) + compressor.flush(zlib.Z_FINISH if final else zlib.Z_FULL_FLUSH)
    return _Strip(deflated, zlib.adler32(raw), len(raw), final)


def _strip_rows(row_bytes: int) -> int:
    return max(1, STRIP_BYTES // row_bytes)


def _big_endian(rows: AnyPixels) -> Pixels:
    """The bytes of the rows as a PNG holds them."""
    return rows.astype(">u2").view(np.uint8) if rows.dtype == np.uint16 else rows


def _header(size: Size, bits: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", size.width, size.height, bits, 2, 0, 0, 0))


def _icc_chunk(profile: bytes) -> bytes:
    return _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile))


def _dpi_chunk(dpi: int) -> bytes:
    per_metre = round(dpi / METRES_PER_INCH)
    return _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


def _text_chunk(keyword: str, text: str) -> bytes:
    if not re.fullmatch(r"[!-~\xa1-\xff]+(?: [!-~\xa1-\xff]+)*", keyword) or len(keyword) > 79:
        raise ValueError(f"a PNG keyword is 1 to 79 Latin-1 characters with single spaces inside, not {keyword!r}")
    if "\0" in text:
        raise UsageError(f'the text "{keyword}" holds a NUL character, which a PNG can\'t keep')
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > TEXT_BYTES:
        raise UsageError(f'the text "{keyword}" is {len(encoded):,} bytes long; at most {TEXT_BYTES:,} go into a PNG')
    if not _NOT_TEXT.search(text):  # read by more programs
        return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1"))
    return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + encoded)
