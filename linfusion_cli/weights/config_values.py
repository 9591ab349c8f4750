"""Which values a setting of a config may have: small checks that tell what they allow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

LARGEST_WIDTH = 8192  # channels, or numbers of an embedding; known models have at most 2816
MOST_LAYERS = 64
MOST_LEVELS = 8


class Allowed(Protocol):
    """A check of one value; `text` tells people what it allows."""

    @property
    def text(self) -> str: ...

    def admits(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Only:
    """One of the values given, and nothing else."""

    values: tuple[object, ...]

    @property
    def text(self) -> str:
        return " or ".join(shown(value) for value in self.values)

    def admits(self, value: object) -> bool:
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int = 1
    high: int = LARGEST_WIDTH

    @property
    def text(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def admits(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number above `above` and up to `high`."""

    above: float
    high: float

    @property
    def text(self) -> str:
        return f"a number above {self.above:g}, up to {self.high:g}"

    def admits(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return math.isfinite(float(value)) and self.above < float(value) <= self.high


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of 1 to MOST_LEVELS values that `one` admits; `nested`: each may be a list itself."""

    one: Allowed
    nested: bool = False

    @property
    def text(self) -> str:
        return f"a list of: {self.one.text}"

    def admits(self, value: object) -> bool:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_LEVELS:
            return False
        inner = Listed(self.one)
        return all(self.one.admits(item) or (self.nested and inner.admits(item)) for item in value)


@dataclass(frozen=True, slots=True)
class Either:
    """What one of the checks admits."""

    checks: tuple[Allowed, ...]

    @property
    def text(self) -> str:
        return ", or ".join(check.text for check in self.checks)

    def admits(self, value: object) -> bool:
        return any(check.admits(value) for check in self.checks)


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value: no image depends on the setting."""

    text: str = "anything"

    def admits(self, value: object) -> bool:
        del value
        return True


FLAG = Only((True, False))
NONE = Only((None,))
ANY = Anything()


def only(*values: object) -> Only:
    return Only(values)


def optional(check: Allowed) -> Either:
    """The same or null."""
    return Either((check, NONE))


def shown(value: object, most: int = 60) -> str:
    """A value of somebody else's file, as JSON, short enough for a message."""
    if isinstance(value, str):
        text = value or '""'
    elif isinstance(value, Mapping | Sequence) and len(value) > most:
        text = f"a {type(value).__name__} of {len(value)} values"
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= most else f"{text[: most - 3]}..."
