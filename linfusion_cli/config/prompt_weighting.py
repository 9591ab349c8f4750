"""Weights in prompts, "(word:1.3)" and "[word]", in AUTOMATIC1111's syntax: fragments of one weight each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from linfusion_cli.errors import UsageError, option

STEP = 1.1  # "(word)" multiplies by it, "[word]" divides by it
LARGEST_WEIGHT = 10.0
DEEPEST = 32
PIECES = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*[)\]]|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
LOOKS_WEIGHTED = re.compile(r"\([^()]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)")
ESCAPE = "For the character itself put a backslash before it"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a prompt, without the signs of the syntax, and how strongly it acts (-10 to 10, 1 as it is)."""

    text: str
    weight: float


def parse_weights(prompt: str, what: str = "the prompt") -> tuple[Fragment, ...]:
    """The fragments of a prompt, neighbours of one weight joined; their texts are the prompt without its weights.

    (word) is 1.1, ((word)) is 1.21, [word] is 1/1.1, (word:1.3) is 1.3; nested weights multiply; a backslash before a
    bracket or a backslash makes it a character like others. Raises UsageError for brackets that do not pair and for
    weights out of range.
    """
    fragments: list[Fragment] = []
    opened: list[tuple[str, int, int]] = []  # the bracket, its position in the prompt, the first fragment inside
    for piece, position in _pieces(prompt):
        if piece in ("(", "["):
            if len(opened) == DEEPEST:
                _refuse(what, prompt, position, f"brackets are nested more than {DEEPEST} deep")
            opened.append((piece, position, len(fragments)))
        elif piece[-1] in ")]" and piece[0] in ":)]":
            if not opened or opened[-1][0] != {")": "(", "]": "["}[piece[-1]]:
                _refuse(what, prompt, position + len(piece) - 1, f'"{piece[-1]}" closes nothing')
            bracket, start, first = opened.pop()
            factor = _factor(what, prompt, bracket, start, piece)
            fragments[first:] = [replace(fragment, weight=fragment.weight * factor) for fragment in fragments[first:]]
        else:
            fragments.append(Fragment(piece[1:] if len(piece) == 2 and piece[0] == "\\" else piece, 1.0))
    if opened:
        _refuse(what, prompt, opened[-1][1], f'"{opened[-1][0]}" is never closed')
    return tuple(_joined(what, fragments))


def plain_text(fragments: tuple[Fragment, ...]) -> str:
    """What is left of a prompt without its weights."""
    return "".join(fragment.text for fragment in fragments)


def weighted(fragments: tuple[Fragment, ...]) -> bool:
    """Whether any weight is another one than 1."""
    return any(fragment.weight != 1 for fragment in fragments)


def looks_weighted(prompt: str) -> str:
    """The first "(word:1.3)" of a prompt, "" if there is none."""
    found = LOOKS_WEIGHTED.search(prompt)
    return found[0] if found else ""


def _pieces(prompt: str) -> Iterator[tuple[str, int]]:
    return ((match[0], match.start()) for match in PIECES.finditer(prompt))


def _factor(what: str, prompt: str, bracket: str, start: int, end: str) -> float:
    """What a pair of brackets multiplies by."""
    number = end[1:-1].strip()
    if bracket == "[":
        if number:
            _refuse(
                what,
                prompt,
                start,
                "square brackets take no number, and words that change between steps are not known: "
                f"(word:{number}) is a weight",
            )
        return 1 / STEP
    weight = float(number) if number else STEP
    if abs(weight) > LARGEST_WEIGHT:
        _refuse(what, prompt, start, f"the weight {number} is not from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
    return weight


def _joined(what: str, fragments: list[Fragment]) -> Iterator[Fragment]:
    """Neighbours of one weight as one fragment. Raises UsageError where nested weights multiply beyond the range."""
    last: Fragment | None = None
    for fragment in fragments:
        if abs(fragment.weight) > LARGEST_WEIGHT:
            raise UsageError(
                f'{what} weighs "{fragment.text.strip()}" by {fragment.weight:.3g}: '
                f"from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g} is allowed"
            )
        if last is not None and fragment.weight != last.weight:
            yield last
            last = None
        last = fragment if last is None else Fragment(last.text + fragment.text, last.weight)
    if last is not None:
        yield last


def _refuse(what: str, prompt: str, position: int, why: str) -> NoReturn:
    shown = prompt[max(0, position - 10) : position + 20]
    raise UsageError(
        f'character {position + 1} of {what}, near "{shown}": {why}. {ESCAPE}, or leave out ', option("prompt_weights")
    )
