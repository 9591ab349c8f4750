r"""Expands {a|b} in prompts to every text, with the syntax of Dynamic Prompts: {2$$a|b|c}, {0.5::a|b} and \{."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def count_texts(text: str) -> int:
    """How many texts chosen() gives, without making them. Raises UsageError as it does."""
    made = 1
    while (bounds := _first_choice(text) if "|" in text else None) is not None:
        made *= _Choice.between(text, bounds).count()
        text = text[bounds[-1] + 1 :]
    return made


def text_at(text: str, number: int) -> str:
    """The text that chosen() gives as number 0 to count_texts(text) - 1, without making those before it."""
    return ESCAPED.sub(r"\1", _text_at(text, number))


def _text_at(text: str, number: int) -> str:
    made = ""
    while (bounds := _first_choice(text) if "|" in text else None) is not None:
        rest = text[bounds[-1] + 1 :]
        own, number = divmod(number, count_texts(rest))
        made += text[: bounds[0]] + _Choice.between(text, bounds).text_at(own)
        text = rest
    return made + text


def _chosen(text: str) -> Iterator[str]:
    bounds = _first_choice(text) if "|" in text else None
    if bounds is None:
        yield text
        return
    for choice in _Choice.between(text, bounds).texts():
        for rest in _chosen(text[bounds[-1] + 1 :]):
            yield text[: bounds[0]] + choice + rest


@dataclass(frozen=True, slots=True)
class _Choice:
    """One pair of braces: from `least` to `most` of its parts are taken, with `joiner` between them."""

    parts: tuple[str, ...]
    least: int
    most: int
    joiner: str

    @staticmethod
    def between(text: str, bounds: Sequence[int]) -> _Choice:
        """bounds: where the braces and bars are. Raises UsageError for more parts to take than there are."""
        parts = [text[start + 1 : end] for start, end in itertools.pairwise(bounds)]
        count = COUNT.match(parts[0]) if "$$" in parts[0] else None
        parts = [parts[0][count.end() :], *parts[1:]] if count else parts
        taken = tuple(found for found in map(_without_weight, parts) if found is not None)
        least = int(count[1]) if count else 1
        most = int(count[2]) if count and count[2] else least
        if not least <= most <= len(taken):
            written = "|".join(parts)
            raise UsageError(f'"{{{count[0] if count else ""}{written:.60}}}": it has {len(taken)} choices to take')
        return _Choice(taken, least, most, JOINER if count is None or count[3] is None else count[3])

    def texts(self) -> Iterator[str]:
        for number in range(self.least, self.most + 1):
            for picked in itertools.combinations(self.parts, number):
                yield from _joined(picked, self.joiner)

    def count(self) -> int:
        """Of texts: the elementary symmetric polynomials of the parts' own counts, which sum over combinations."""
        sums = [1] + [0] * self.most
        for own in map(count_texts, self.parts):
            for number in range(self.most, 0, -1):
                sums[number] += own * sums[number - 1]
        return sum(sums[self.least :])

    def text_at(self, number: int) -> str:
        for taken in range(self.least, self.most + 1):
            for picked in itertools.combinations(self.parts, taken):
                counts = [count_texts(part) for part in picked]
                if number < math.prod(counts):
                    return self.joiner.join(_mixed(picked, counts, number))
                number -= math.prod(counts)
        raise IndexError(number)


def _mixed(picked: Sequence[str], counts: Sequence[int], number: int) -> list[str]:
    """A text of each part: `number` in digits of the parts' counts, the last part's changing fastest."""
    made: list[str] = []
    for part, count in zip(reversed(picked), reversed(counts), strict=True):
        number, own = divmod(number, count)
        made.insert(0, _text_at(part, own))
    return made


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
