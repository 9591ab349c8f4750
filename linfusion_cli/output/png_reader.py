"""Reads a PNG: checks every pixel of one of ours, and reads the texts of any."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.file_formats import CHANNELS
from linfusion_cli.files import open_regular
from linfusion_cli.geometry import Size
from linfusion_cli.png_chunks import PIECE_BYTES, Chunk, chunks_of, pieces, whole

READ_TEXT_BYTES = 1 << 20  # of one text that is read, after inflating
SUM_TEXT_BYTES = 4 << 20  # of all texts of a file
KEYWORD_BYTES = 80  # of the longest keyword and the zero behind it


class Inflater(Protocol):
    """The part of zlib's decompressobj that a check needs."""

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def check(path: Path) -> Size:
    """The size in pixels of an image that PngWriter wrote, after reading all of it: chunks, checksums and every pixel.

    Raises OutputError that says what is wrong with the file.
    """
    try:
        with open_regular(path) as file:
            return _checked_size(file)
    except OSError as error:
        raise OutputError(f"Can't read {str(path)!r}: {error.strerror}") from error
    except (ValueError, zlib.error) as error:
        raise OutputError(f"{str(path)!r} is damaged: {error}") from error


def read_text_chunks(path: Path) -> dict[str, str]:
    """The texts (tEXt, zTXt, iTXt) of a PNG of any kind by keyword, as found: treat them as a stranger's.

    The pixels are not read. Raises UsageError for what is no PNG, is damaged, or holds a text over READ_TEXT_BYTES.
    """
    return dict(_read(path, lambda kind, data: True))


def read_text(path: Path, keyword: str) -> str | None:
    """The first text of a PNG with a keyword, None if there is none; other programs' texts are not even read.

    Raises UsageError as read_text_chunks does.
    """
    found = _read(path, lambda kind, data: data.startswith(keyword.encode("latin-1") + b"\0"), most=1)
    return found[0][1] if found else None


def _read(path: Path, wanted: Callable[[bytes, bytes], bool], most: int | None = None) -> list[tuple[str, str]]:
    """At most `most` texts whose chunk's type and first bytes are wanted; their sum is limited as each of them is."""
    found: list[tuple[str, str]] = []
    try:
        with open_regular(path) as file:
            for chunk in chunks_of(file):
                if chunk.kind in _TEXT_READERS and wanted(chunk.kind, _first_bytes(file, chunk)):
                    found.append(_text(chunk.kind, whole(file, chunk, READ_TEXT_BYTES)))
                    if sum(len(text) for _, text in found) > SUM_TEXT_BYTES:
                        raise ValueError(f"its texts have more than {SUM_TEXT_BYTES:,} characters in sum")
                    if len(found) == most:
                        break
            return found
    except OSError as error:
        raise UsageError(f"Can't read {str(path)!r}: {error.strerror}") from error
    except (ValueError, zlib.error) as error:
        raise UsageError(f"Can't read the texts of {str(path)!r}: {error}") from error


def _first_bytes(file: BinaryIO, chunk: Chunk) -> bytes:
    file.seek(chunk.start)
    return file.read(min(chunk.length, KEYWORD_BYTES))


def _checked_size(file: BinaryIO) -> Size:
    chunks = chunks_of(file)
    size, bits = _read_header(file, next(chunks))
    left_bytes = size.height * (size.width * CHANNELS * bits // 8 + 1)
    inflater = zlib.decompressobj()
    for chunk in chunks:
        for piece in pieces(file, chunk):
            if chunk.kind == b"IDAT":
                left_bytes -= _inflated_bytes(inflater, piece, left_bytes)
    if left_bytes or not inflater.eof:
        raise ValueError("pixels are missing")
    return size


def _read_header(file: BinaryIO, chunk: Chunk) -> tuple[Size, int]:
    """The size in pixels, and the bits per channel."""
    if chunk.kind != b"IHDR" or chunk.length != 13:
        raise ValueError("its header is broken")
    width, height, *kind = struct.unpack(">IIBBBBB", whole(file, chunk, READ_TEXT_BYTES))
    if kind not in ([8, 2, 0, 0, 0], [16, 2, 0, 0, 0]) or not width or not height:
        raise ValueError("it is not a truecolour PNG as linfusion writes them")
    return Size(width, height), int(kind[0])


def _inflated_bytes(inflater: Inflater, piece: bytes, left_bytes: int) -> int:
    """How many bytes a piece of the stream inflates to, seen in bounded memory."""
    count = 0
    while piece:
        count += len(inflater.decompress(piece, PIECE_BYTES))
        if count > left_bytes or inflater.unused_data:
            raise ValueError("it holds more pixels than its header says")
        piece = inflater.unconsumed_tail
    return count


def _text(kind: bytes, data: bytes) -> tuple[str, str]:
    keyword, separator, rest = data.partition(b"\0")
    if not separator:
        raise ValueError("a text has no keyword")
    return keyword.decode("latin-1"), _TEXT_READERS[kind](rest)


def _read_itxt(rest: bytes) -> str:
    compressed, (_, separator, tail) = rest[:1] == b"\1", rest[2:].partition(b"\0")
    _, second_separator, text = tail.partition(b"\0")
    if not separator or not second_separator:
        raise ValueError("a text is broken")
    return (_inflated_text(text) if compressed else text).decode("utf-8")


def _inflated_text(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, READ_TEXT_BYTES)
    if not inflater.eof:
        raise ValueError(f"a compressed text is broken or inflates to over {READ_TEXT_BYTES:,} bytes")
    return text


_TEXT_READERS: Mapping[bytes, Callable[[bytes], str]] = {
    b"tEXt": lambda rest: rest.decode("latin-1"),
    b"zTXt": lambda rest: _inflated_text(rest[1:]).decode("latin-1"),
    b"iTXt": _read_itxt,
}
