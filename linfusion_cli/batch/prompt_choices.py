r"""Expands {a|b} in prompts to every text, with the syntax of Dynamic Prompts: {2$$a|b|c}, {0.5::a|b} and \{."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from linfusion_cli.errors import UsageError

ESCAPED = re.compile(r"\\([{}|])")
# How many of the choices are taken, and what is put between them: "2$$", "1-2$$", "2$$ and $$".
COUNT = re.compile(r"\s*(\d{1,3})(?:-(\d{1,3}))?\$\$(?:([^$|{}]*)\$\$)?")
WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::")
WEIGHTED = re.compile(rf"[{{|$]{WEIGHT.pattern}")
JOINER = ", "


def chosen(text: str) -> Iterator[str]:
    r"""Every text that {a|b} stands for, the first choices first, nested ones too. Braces without | are text.

    {2$$a|b|c} takes two of the choices, in their order; {1-2$$a|b} one or two; {2$$ and $$a|b} puts " and " between
    them. A choice of weight 0 ({0::a|b}) is never taken; other weights change nothing, as every choice is made.
    \{, \} and \| are the characters themselves. Raises UsageError for a count that the choices can't give.
    """
    return (ESCAPED.sub(r"\1", made) for made in _chosen(text)) if "\\" in text else _chosen(text)


def has_weights(text: str) -> bool:
    """Whether a choice has a weight, as in {0.5::a|b}."""
    return "::" in text and WEIGHTED.search(text) is not None


def _chosen(text: str) -> Iterator[str]:
    bounds = _first_choice(text) if "|" in text else None
    if bounds is None:
        yield text
        return
    parts = [text[start + 1 : end] for start, end in itertools.pairwise(bounds)]
    for choice in _alternatives(parts):
        for rest in _chosen(text[bounds[-1] + 1 :]):
            yield text[: bounds[0]] + choice + rest


def _alternatives(parts: Sequence[str]) -> Iterator[str]:
    """Every text of one pair of braces; `parts` are the texts between its bars."""
    count = COUNT.match(parts[0]) if "$$" in parts[0] else None
    parts = [parts[0][count.end() :], *parts[1:]] if count else parts
    taken = [found for found in map(_without_weight, parts) if found is not None]
    if count is None and taken:
        for part in taken:
            yield from _chosen(part)
        return
    least = int(count[1]) if count else 1
    most = int(count[2]) if count and count[2] else least
    if not least <= most <= len(taken):
        written = "|".join(parts)
        raise UsageError(f'"{{{count[0] if count else ""}{written:.60}}}": it has {len(taken)} choices to take')
    joiner = JOINER if count is None or count[3] is None else count[3]
    for number in range(least, most + 1):
        for picked in itertools.combinations(taken, number):
            yield from _joined(picked, joiner)


def _without_weight(part: str) -> str | None:
    """A choice without its weight; None if the weight is 0."""
    weight = WEIGHT.match(part) if "::" in part else None
    if weight is None:
        return part
    return part[weight.end() :] if float(weight[1]) else None


def _joined(parts: Sequence[str], joiner: str) -> Iterator[str]:
    if not parts:
        yield ""
        return
    for first in _chosen(parts[0]):
        for rest in _joined(parts[1:], joiner):
            yield first + joiner + rest if len(parts) > 1 else first


def _first_choice(text: str) -> list[int] | None:
    """Where the first {a|b} that is in no other begins, its bars are, and it ends; None if there is none."""
    opened: list[list[int]] = []
    first: list[int] | None = None
    is_escaped = False
    for place, letter in enumerate(text):
        if is_escaped or letter == "\\":
            is_escaped = not is_escaped
        elif letter == "{":
            opened.append([place])
        elif letter == "|" and opened:
            opened[-1].append(place)
        elif letter == "}" and opened:
            bounds = [*opened.pop(), place]
            if len(bounds) > 2 and (first is None or bounds[0] < first[0]):
                first = bounds
            if first and not opened:
                break
    return first
