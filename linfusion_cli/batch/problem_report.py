"""Makes one message of all problems in prompt lists: in the order of the lines, equal texts joined."""

from __future__ import annotations

import re
from collections.abc import Sequence

from linfusion_cli.errors import counted, first_of

_PLACED = re.compile(r"(.+?):(\d+): (.*)", re.DOTALL)


def refusal(problems: Sequence[str]) -> str:
    """The message for problems that are "file:line: text" or, where a flag is wrong, just a text."""
    said = _in_order(problems)
    return "\n".join([f"{counted(len(said), 'problem')}, nothing was started", *first_of(said, "problem")])


def summed_up(texts: Sequence[str], word: str) -> list[str]:
    """One line for each distinct text, at most SHOWN of them, and a line that counts the others as `word`s."""
    return first_of(_in_order(texts), word)


def _in_order(problems: Sequence[str]) -> list[str]:
    lines: dict[tuple[str, str], list[int]] = {}
    for problem in problems:
        placed = _PLACED.fullmatch(problem)
        file, line, text = (placed[1], int(placed[2]), placed[3]) if placed else ("", 0, problem)
        lines.setdefault((file, text), []).append(line)
    files = {file: i for i, file in enumerate(dict.fromkeys(file for file, _ in lines))}
    ordered = sorted(lines.items(), key=lambda item: (files[item[0][0]], min(item[1])))
    return [_said(file, text, numbers) for (file, text), numbers in ordered]


def _said(file: str, text: str, lines: Sequence[int]) -> str:
    if not file:
        return text
    others = len(set(lines)) - 1
    return f"{file}:{min(lines)}: {text}" + (f" (and in {counted(others, 'other line')})" if others else "")
