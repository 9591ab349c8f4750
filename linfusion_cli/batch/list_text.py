"""Decodes the bytes of a prompt list: UTF-8 and UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from linfusion_cli.errors import UsageError

LINE_END = re.compile(r"\r\n|\r|\n")
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PROBE_BYTES = 1000


def decoded(data: bytes, name: str) -> str:
    """The text of a file; `name` is used in the error.

    Raises UsageError, with the line, for bytes that are not text in UTF-8 or UTF-16.
    """
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(LINE_END.findall(data[: error.start].decode(encoding, "ignore"))) + 1
        kind = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise UsageError(f"{name}:{line}: not a text in {kind} (byte {error.start}). Save the file as UTF-8") from error


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    start = data[: _PROBE_BYTES & ~1]
    # Without a mark: each second byte of mostly Latin text in UTF-16 is zero.
    for encoding, zeros, letters in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) // 2 and letters.count(0) == 0:
            return encoding
    return "utf-8-sig"


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Every line with its number, from 1, without its end.

    CR, LF and CR LF end a line. The other characters that Unicode calls line breaks may be part of a prompt.
    """
    return enumerate(LINE_END.split(text), 1)


def filled_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in lines_of(text) if line.strip())
