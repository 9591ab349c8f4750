"""Reads JSON that somebody else may have written: in bounded time and memory, with one error for all that is odd."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

from linfusion_cli.errors import OutputError
from linfusion_cli.files import read_regular

LIMIT_BYTES = 16 << 20  # of a text, unless the caller knows better; the largest header of a known model has 0.5 MB
MOST_VALUES = 1_000_000  # in a text: a value of three bytes may take a hundred in memory
MOST_DEPTH = 100
MOST_DIGITS = 20  # of a whole number: those of 64 bits
MOST_NUMBER_CHARS = 400  # of any other number
_ONLY_MARKS = bytes(set(range(256)) - set(b'"[]{}'))
_CLOSE = bytes.maketrans(b"[]{}", b"\2\0\2\0")


class JsonError(OutputError, ValueError):
    """A text is not the JSON object that it should be.

    It is a ValueError, so that a reader can say what the file is for, and an OutputError (74), so that it is never
    shown as a fault of the program.
    """


def read_json(path: Path, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """The object in a JSON file, read as parse_json reads.

    Raises JsonError that names the file: also if it is larger, no regular file, or can't be read. A file that is not
    there raises FileNotFoundError, because many callers do without it.
    """
    try:
        data = read_regular(path, limit_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise JsonError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    return parse_json(data, repr(str(path)), limit_bytes)


def parse_json(text: bytes | str, name: str, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """The object that a text holds; `name` says in the error what was read.

    Raises JsonError for anything else than an object, and for all that parse_json_value refuses.
    """
    found = parse_json_value(text, name, limit_bytes)
    if not isinstance(found, dict):
        raise JsonError(f"{name} holds a {type(found).__name__}, not an object in braces")
    return found


def parse_json_value(text: bytes | str, name: str, limit_bytes: int = LIMIT_BYTES) -> object:
    """The value of any type that a text holds; `name` says in the error what was read.

    Raises JsonError for what RFC 8259 does not allow (NaN, Infinity, a byte order mark, bytes that are not UTF-8), for
    a name that stands twice in one object, for a number that no 64-bit type holds, for nesting beyond MOST_DEPTH, for
    more than MOST_VALUES values, and for a text of more than limit_bytes.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        _check_size(data, limit_bytes)
        found: object = _DECODER.decode(data.decode())
        return found
    except json.JSONDecodeError as error:
        raise JsonError(f"{name} is not JSON at line {error.lineno}, column {error.colno}") from error
    except UnicodeError as error:
        raise JsonError(f"{name} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise JsonError(f"{name} can't be used: {error}") from error


def _check_size(data: bytes, limit_bytes: int) -> None:
    if len(data) > limit_bytes:
        raise ValueError(f"it has more than {limit_bytes:,} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it begins with a byte order mark")
    openings = data.count(b"[") + data.count(b"{")
    if openings > MOST_DEPTH and _depth(data) > MOST_DEPTH:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
    if len(data) > MOST_VALUES and openings + data.count(b",") > MOST_VALUES:
        raise ValueError(f"it holds more than {MOST_VALUES:,} values")


def _depth(data: bytes) -> int:
    """How deep brackets nest outside of strings."""
    marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _ONLY_MARKS)
    outside = b"".join(marks.split(b'"')[::2])[: 2 * MOST_VALUES]
    return max(accumulate(step - 1 for step in outside.translate(_CLOSE)), default=0)


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"the number {text:.20}... has {len(text)} digits, at most {MOST_DIGITS} are read")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= MOST_NUMBER_CHARS else math.inf
    if math.isinf(value):
        raise ValueError(f"the number {text:.20} is out of range")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice:.40} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(
    parse_int=_whole_number, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
)
