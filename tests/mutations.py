"""Sound files with something odd in them: bytes changed, or values of their JSON replaced by what no one expects."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

PIECES = (
    b"[" * 50,
    b"{",
    b"9" * 5000,
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"!!int ",
    b"1e999",
    b"nan",
    b'"',
    b"'",
    b"\n",
    b".a" * 200,
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 10**19, 1e308, -1e-308, 0.5),
    *("", "x", "../../etc/passwd", "/dev/zero", "\0", "\x1b[31m", "é" * 500, "9" * 400),
    *([], {}, [None], [[]], {"": {}}, [1] * 3000, {str(key): key for key in range(2000)}, [-1], [10**9] * 4),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four of them replaced, removed, doubled, or odd pieces put between."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + chance.randint(1, 9) :]
            case 2:
                data = data[:at] + data[at : at + chance.randint(1, 40)] * 2 + data[at:]
            case _:
                data = data[:at] + chance.choice(PIECES) + data[at:]
    return data


def mutated_json(data: bytes, chance: random.Random) -> bytes:
    """JSON of which one or two values, at any depth, are others, gone, or under another name."""
    value = json.loads(data)
    for _ in range(chance.randint(1, 2)):
        _change(value, chance)
    return json.dumps(value).encode()


def mutated_lines(data: bytes, chance: random.Random) -> bytes:
    """Lines of JSON, one of which is changed, and sometimes doubled or torn."""
    lines = data.splitlines()
    at = chance.randrange(len(lines))
    lines[at] = mutated_json(lines[at], chance)
    if chance.random() < 0.2:
        lines.insert(at, lines[at][: chance.randrange(len(lines[at]))])
    return b"\n".join(lines) + b"\n"


def mutated_header(data: bytes, chance: random.Random) -> bytes:
    """A safetensors file with values of its header changed; its length is that of the new header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = mutated_json(data[8 : 8 + length], chance)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _change(value: Any, chance: random.Random) -> None:
    """Walks down to a random place of a list or a table and changes what is there."""
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            value = inner
            continue
        match chance.randrange(4):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[chance.choice(("x", f"{key}_", "__metadata__", "../x"))] = value.pop(key)
            case _:
                value[key] = chance.choice(ODD_VALUES)
        return
