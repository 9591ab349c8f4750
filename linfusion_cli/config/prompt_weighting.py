"""Weights in prompts, "(word:1.3)" and "[word]", in AUTOMATIC1111's syntax: fragments of one weight each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from linfusion_cli.errors import Message, UsageError, option

STEP = 1.1  # "(word)" multiplies by it, "[word]" divides by it
FACTORS = {"(": STEP, "[": 1 / STEP}
OPENING = {")": "(", "]": "["}
LARGEST_WEIGHT = 10.0
DEEPEST = 32
PIECES = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*[)\]]|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
BREAK = re.compile(r"\s*\bBREAK\b\s*")
BREAK_WEIGHT = -1.0  # of the sign itself: brackets around it multiply it, and then A1111 takes it for a word
BREAK_WORD = " BREAK "
ESCAPE = "For the character itself put a backslash before it"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a prompt, without the signs of the syntax, and how strongly it acts (-10 to 10, 1 as it is).

    starts_chunk: BREAK stands before it, so the text encoder reads it apart from what comes before
    """

    text: str
    weight: float
    starts_chunk: bool = False


@dataclass(frozen=True, slots=True)
class WeightedPrompt:
    """A prompt read with its weights: fragments, neighbours of one weight joined; notes on brackets without a pair."""

    fragments: tuple[Fragment, ...]
    notes: tuple[Message, ...]


def parse_weights(prompt: str, what: str = "the prompt") -> WeightedPrompt:
    """Reads a prompt as AUTOMATIC1111 does; `what` names it in messages.

    (word) is 1.1, ((word)) is 1.21, [word] is 1/1.1, (word:1.3) is 1.3; nested weights multiply; a backslash before a
    bracket or a backslash makes it a character like others; BREAK starts a chunk. BREAK inside brackets is a word of a
    negative weight, a bracket that closes nothing is text, and one that is never closed acts on all that follows: of
    these there are notes. Raises UsageError for weights
    out of range, a number in square brackets, and brackets nested more than DEEPEST deep.
    """
    reader = _Reader(prompt, what)
    for match in PIECES.finditer(prompt):
        reader.read(match[0], match.start())
    return WeightedPrompt(*reader.finished())


def plain_text(fragments: tuple[Fragment, ...]) -> str:
    """What is left of a prompt without its weights and breaks."""
    return "".join(f" {one.text}" if one.starts_chunk else one.text for one in fragments).strip()


class _Reader:
    """Reads a prompt piece by piece. Round and square brackets pair apart from each other."""

    def __init__(self, prompt: str, what: str) -> None:
        self._prompt, self._what = prompt, what
        self._fragments: list[Fragment] = []
        self._open: dict[str, list[tuple[int, int]]] = {
            "(": [],
            "[": [],
        }  # its position, the first fragment inside
        self._unopened: list[int] = []  # the positions of brackets that close nothing

    def read(self, piece: str, position: int) -> None:
        """One match of PIECES."""
        closes = OPENING.get(piece[-1], "") if piece[0] in ":)]" else ""
        if piece in self._open:
            if sum(map(len, self._open.values())) == DEEPEST:
                self._refuse(position, f"brackets are nested more than {DEEPEST} deep")
            self._open[piece].append((position, len(self._fragments)))
        elif closes and self._open[closes]:
            start, first = self._open[closes].pop()
            self._multiply(first, self._factor(closes, start, piece))
        elif closes:
            self._unopened.append(position + len(piece) - 1)
            self._fragments.append(Fragment(piece, 1.0))
        elif len(piece) == 2 and piece[0] == "\\":
            self._fragments.append(Fragment(piece[1:], 1.0))
        else:
            first_part, *others = BREAK.split(piece)
            self._fragments.append(Fragment(first_part, 1.0))
            for part in others:
                self._fragments += [Fragment("", BREAK_WEIGHT, starts_chunk=True), Fragment(part, 1.0)]

    def finished(self) -> tuple[tuple[Fragment, ...], tuple[Message, ...]]:
        """The fragments and the notes."""
        notes = list(self._notes())
        for bracket, factor in FACTORS.items():
            for _, first in self._open[bracket]:
                self._multiply(first, factor)
        read = list(self._breaks_read())
        words = [one.weight for one in read if one.text == BREAK_WORD]
        if words:
            what = f"BREAK inside brackets of {self._what} is read as a word of weight {words[0]:.3g}, as A1111 does"
            notes.append(Message(f"{what}. Outside of them it starts a chunk"))
        return tuple(self._joined(read)), tuple(notes)

    def _breaks_read(self) -> Iterator[Fragment]:
        """The fragments with each sign BREAK as the start of the next one, or as a word."""
        starts_chunk = False
        for fragment in self._fragments:
            if not fragment.starts_chunk:
                yield replace(fragment, starts_chunk=starts_chunk)
                starts_chunk = False
            elif fragment.weight == BREAK_WEIGHT:
                starts_chunk = True
            else:
                yield Fragment(BREAK_WORD, fragment.weight)

    def _notes(self) -> Iterator[Message]:
        """The first bracket that closes nothing, and the first of each kind that is never closed."""
        for position in self._unopened[:1]:
            yield Message(f"{self._at(position)} closes nothing and is read as text")
        for bracket, opened in self._open.items():
            for position, _ in opened[:1]:
                factor = FACTORS[bracket] ** len(opened)
                others = f" (and {len(opened) - 1} more)" if len(opened) > 1 else ""
                yield Message(f"{self._at(position)} is never closed{others}: the rest weighs {factor:.3g}. {ESCAPE}")

    def _multiply(self, first: int, factor: float) -> None:
        inside = self._fragments[first:]
        self._fragments[first:] = [replace(fragment, weight=fragment.weight * factor) for fragment in inside]

    def _factor(self, bracket: str, start: int, end: str) -> float:
        """What a pair of brackets multiplies by."""
        number = end[1:-1].strip()
        if not number:
            return FACTORS[bracket]
        if bracket == "[":
            self._refuse(
                start,
                "square brackets take no number, and words that change between steps are not known: "
                f"(word:{number}) is a weight",
            )
        weight = float(number)
        if abs(weight) > LARGEST_WEIGHT:
            self._refuse(start, f"the weight {number} is not from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
        return weight

    def _joined(self, fragments: list[Fragment]) -> Iterator[Fragment]:
        """Neighbours of one weight as one fragment. Raises UsageError for nested weights that multiply too far."""
        last: Fragment | None = None
        for fragment in fragments:
            if abs(fragment.weight) > LARGEST_WEIGHT:
                raise UsageError(
                    f'{self._what} weighs "{fragment.text.strip()}" by {fragment.weight:.3g}: '
                    f"from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g} is allowed"
                )
            if not fragment.text and not fragment.starts_chunk:
                continue
            if last is not None and fragment.weight == last.weight and not fragment.starts_chunk:
                last = replace(last, text=last.text + fragment.text)
                continue
            if last is not None:
                yield last
            last = fragment
        if last is not None:
            yield last

    def _at(self, position: int) -> str:
        shown = self._prompt[max(0, position - 10) : position + 20]
        return f'"{self._prompt[position]}" at character {position + 1} of {self._what}, near "{shown}",'

    def _refuse(self, position: int, why: str) -> NoReturn:
        shown = self._prompt[max(0, position - 10) : position + 20]
        raise UsageError(
            f'character {position + 1} of {self._what}, near "{shown}": {why}. {ESCAPE}, or leave out ',
            option("prompt_weights"),
        )
