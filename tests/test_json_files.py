"""Whatever a JSON file holds, it is an object of plain values or one error that names it, soon and in little memory."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.errors import LinfusionError
from linfusion_cli.json_files import MOST_DEPTH, JsonError, parse_json, read_json

ODD = {
    "nothing": b"",
    "half": b'{"a": 1',
    "two": b"{}{}",
    "array": b"[1]",
    "string": b'"{}"',
    "null": b"null",
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": "{}".encode("utf-16"),
    "not utf-8": b'{"a": "\xff"}',
    "surrogate": b'{"a": "\xed\xa0\x80"}',
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "huge float": b'{"a": 1e999}',
    "long float": b'{"a": 0.' + b"1" * 5000 + b"}",
    "huge int": b'{"a": ' + b"9" * 5000 + b"}",
    "int beyond 64 bits": b'{"a": 100000000000000000000}',
    "twice": b'{"a": 1, "a": 2}',
    "twice below": b'{"a": [{"b": 1, "b": 1}]}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep behind a string": b'{"a\\\\": "\\"[", "b": ' + b"[" * 200 + b"]" * 200 + b"}",
    "many values": b'{"a": [' + b"1," * 1_500_000 + b"1]}",
    "control character": b'{"a": "\x00"}',
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_files_are_one_error_that_names_the_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(JsonError, match=r"a\.json") as caught:
        read_json(path)
    assert isinstance(caught.value, LinfusionError)
    assert len(str(caught.value)) <= 400 + len(str(path))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "locked").write_text("{}")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "pipe" / "below"):
        with pytest.raises(JsonError, match=path.name):
            read_json(path)


def test_a_missing_file_and_a_dangling_link_are_told_apart_from_odd_ones(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("missing.json", "link"):
        with pytest.raises(FileNotFoundError):
            read_json(tmp_path / name)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """The hub's cache is made of links."""
    (tmp_path / "blob").write_text('{"a": 1}')
    (tmp_path / "config.json").symlink_to(tmp_path / "blob")
    assert read_json(tmp_path / "config.json") == {"a": 1}


def test_the_limit_is_that_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path, 8) == {"a": 1}
    with pytest.raises(JsonError, match="more than 7 bytes"):
        read_json(path, 7)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_the_depth_is_counted_outside_of_strings() -> None:
    assert parse_json(nested(MOST_DEPTH), "it")
    with pytest.raises(JsonError, match="deep"):
        parse_json(nested(MOST_DEPTH + 1), "it")
    for text in ("[" * 5000, '"' + "[" * 5000, "\\" + "[" * 5000, "\\\\" + '"' + "{" * 5000):
        assert parse_json(json.dumps({"a": text, "b": [[] for _ in range(200)]}), "it")["a"] == text


def test_numbers_of_64_bits_are_read_exactly() -> None:
    numbers = [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, 1e308, 5e-324, -0.0]
    assert parse_json(json.dumps({"a": numbers}), "it")["a"] == numbers


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=40,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), VALUES), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_object_comes_back(value: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        text = json.dumps(value)
    assert parse_json(text, "it") == value


def is_plain(value: object) -> bool:
    match value:
        case dict():
            return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
        case list():
            return all(is_plain(item) for item in value)
        case float():
            return math.isfinite(value)
        case _:
            return value is None or isinstance(value, bool | int | str)


PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\\",
    b":",
    b",",
    b"1",
    b"e9",
    b"-",
    b"NaN",
    b"a",
    b" ",
    b"\xff",
    b"null",
    b'"a":',
]


@pytest.mark.slow
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_an_object_or_an_error(data: bytes) -> None:
    for text in (data, b'{"a":' + data + b"}"):
        try:
            found = parse_json(text, "it")
        except JsonError:
            continue
        assert is_plain(found)
        assert found == json.loads(text)


HOSTILE = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from linfusion_cli.json_files import JsonError, parse_json
make = {
    "line": lambda: b'{"a": "' + b"x" * 100_000_000 + b'"}',
    "brackets": lambda: b"[]," * 5_000_000,
    "quotes": lambda: b'"a",' * 4_000_000,
    "backslashes": lambda: b'{"a": "' + b'\\\\\\\\' * 3_000_000 + b'"}' + b"[" * 200,
    "numbers": lambda: b'{"a": [' + b"300," * 4_000_000 + b"1]}",
    "depth": lambda: b"[" * 100_000,
    "wide characters": lambda: b'{"a": "' + "\U0001f600".encode() * 4_000_000 + b'"}',
}[sys.argv[2]]
data = make()
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    parse_json(data, "it")
except JsonError:
    pass
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "brackets", "quotes", "backslashes", "numbers", "depth", "wide characters"])
def test_hostile_texts_cost_little(kind: str) -> None:
    root = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", HOSTILE, root, kind], capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds < 2
    assert mebibytes < 300


@pytest.mark.slow
def test_many_short_lines_are_read_one_by_one_in_little_memory() -> None:
    line = json.dumps({"event": "done", "id": "a" * 64, "name": "a.png", "size_bytes": 12345, "modified_ns": 2**60})
    tracemalloc.start()
    for _ in range(20_000):
        parse_json(line, "it", 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
