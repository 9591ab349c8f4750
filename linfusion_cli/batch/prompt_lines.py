"""The lines of a .txt list: a prompt, flags after it, or pasted infotext of several lines."""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator

from linfusion_cli.batch.list_text import lines_of
from linfusion_cli.batch.prompt_conventions import NEGATIVE, SETTINGS, has_settings
from linfusion_cli.config.midjourney import UNKNOWN_IN_LISTS, midjourney_advice
from linfusion_cli.config.options import OPTIONS
from linfusion_cli.errors import UsageError, option
from linfusion_cli.flag_words import dashed

# The one-letter flags of InvokeAI's and Stable Diffusion's first scripts: -n4 -H512 -W640 -S1234 -s50 -C7.5 -A k_euler.
SHORT_KEYS = {
    "n": "count",
    "H": "height",
    "W": "width",
    "S": "seed",
    "s": "steps",
    "C": "guidance",
    "A": "scheduler",
}
# Those of kohya's sample prompts, and Midjourney's --no: --w 640 --h 512 --d 7 --l 7.5 --s 28 --n low quality.
KOHYA_KEYS = {"n": "negative", "w": "width", "h": "height", "d": "seed", "l": "guidance", "s": "steps"}
KOHYA_KEYS |= {"no": "negative"}
_NUMBER = r"-?\d[\d.]*(?=\s|$)"
_SAMPLER = r"(?:k_\w+|ddim|plms)(?=\s|$)"
FLAG = re.compile(rf"(?:^|\s)(?:--[A-Za-z]|-[nop](?=\s)|-n{_NUMBER}|-[HWSsC]\s?{_NUMBER}|-A\s?{_SAMPLER})")
COMPACT = re.compile(rf"-(?:[HWSsC](?:-?\d[\d.]*)?|n\d+|A(?:{_SAMPLER})?)")
WHOLE_QUOTED = re.compile(r"""\s*(?:"[^"]*"|'[^']*')(?=\s+-|\s*$)""")
LONG_FLAGS = {dashed(short): dashed(row.words[0]) for row in OPTIONS for short in row.words if len(short) == 1}
SWITCHES = tuple(row.key.replace("_", "-") for row in OPTIONS if row.is_switch)  # no value; "no-" before it: off
# Texts of several words, without quotes too, as A1111 reads them.
TEXTS = frozenset({"prompt", "negative", "negative-prompt", "neg", "n", "no"})
SPACE = " \t\r\n"  # between the words of a shell
WORD = re.compile(rf"""(?:[^{SPACE}"']|"[^"]*"|'[^']*')++""")
WORDS = re.compile(rf"[{SPACE}]*+(?:{WORD.pattern}(?:[{SPACE}]++|$))*+")
PAIR = re.compile(rf"""[{SPACE}]*+--([^{SPACE}"'=]++)[{SPACE}]++({WORD.pattern})(?=[{SPACE}]|$)""")
PAIRS = re.compile(rf"(?:{PAIR.pattern})*+[{SPACE}]*+")
QUOTED = re.compile(r"""\"[^"]*"|'[^']*'""")
APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_QUOTED_OR_APOSTROPHE = re.compile(rf"""("(?:\\.|[^"\\])*"|(?<!\w)'[^']*')|{APOSTROPHE.pattern}""")


def read_txt(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    """The line and the values of each prompt, or what is wrong with it; # starts a comment line."""
    has_infotext = "Steps:" in text or "Negative prompt:" in text
    for number, entry in _entries(text) if has_infotext else _single(text):
        try:
            yield number, {"prompt": entry} if has_settings(entry) else line_values(entry)
        except UsageError as error:
            yield number, error.message


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _single(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in lines_of(text) if line.strip() and not _is_comment(line))


def _entries(text: str) -> Iterator[tuple[int, str]]:
    """The entries of a text with infotext: up to a line of settings all lines since the last blank one are one entry.

    Without such a line each line is an entry, and "Negative prompt:" belongs to the one before.
    """
    block: list[tuple[int, str]] = []
    for number, line in [*lines_of(text), (0, "")]:
        if SETTINGS.match(line.strip()):
            yield (block or [(number, "")])[0][0], "\n".join([*(old for _, old in block), line.strip()])
            block = []
        elif not line.strip() or _is_comment(line):
            yield from block
            block = []
        elif NEGATIVE.match(line.lstrip()) and block:
            first, prompt = block.pop()
            block.append((first, f"{prompt}\n{line.strip()}"))
        else:
            block.append((number, line))


def line_values(line: str) -> dict[str, object]:
    """The prompt and the flags after it, by their keys. Raises UsageError for an unknown flag or a missing value."""
    prompt, rest = _split(line)
    values: dict[str, object] = {"prompt": prompt} if prompt else {}
    for given, value in _pairs(rest) if rest else ():
        name = KOHYA_KEYS.get(given, given)
        if value is None and name in UNKNOWN_IN_LISTS and (instead := midjourney_advice(name)):
            raise UsageError(f'"{name}" ', instead)
        if name in values:
            raise UsageError(option(name), " is given twice")
        if value is None:
            raise UsageError(option(name), " lacks its value")
        values[name] = value
    return values


def _split(line: str) -> tuple[str, str]:
    if "-" not in line:
        return line.strip(), ""
    quoted = WHOLE_QUOTED.match(line)
    first = FLAG.search(line, quoted.end() if quoted else 0)
    return (line[: first.start()].strip(), line[first.start() :]) if first else (line.strip(), "")


def _pairs(text: str) -> Iterable[tuple[str, str | None]]:
    """The flags with their values; a regular expression reads nearly all lines, which saves time on long lists."""
    if APOSTROPHE.search(text):
        text = _QUOTED_OR_APOSTROPHE.sub(lambda match: match[1] or "\\'", text)
    if (
        "\\" in text
        or '""' in text
        or "''" in text
        or any(name in text for name in SWITCHES)
        or not PAIRS.fullmatch(text)
    ):
        return _pairs_of(_words(text))
    found = PAIR.findall(text)
    return [(name, _unquoted(value)) for name, value in found] if '"' in text or "'" in text else found


def _pairs_of(words: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each flag with its value; None where the value is missing."""
    left = deque(words)
    while left:
        name, value = _flag(left)
        switch = name.removeprefix("no-")
        if switch in SWITCHES and not value and (not left or left[0].lower() not in ("true", "false")):
            yield switch, "false" if name.startswith("no-") else "true"
            continue
        value = value or (left.popleft() if left else "")
        while value and name.replace("_", "-") in TEXTS and left and not _is_flag(left[0]):
            value += f" {left.popleft()}"
        yield name, value or None


def _flag(left: deque[str]) -> tuple[str, str]:
    """Takes a flag from the words: its long name, and the value where it is in the same word."""
    word = left.popleft()
    if COMPACT.fullmatch(word):
        return SHORT_KEYS[word[1]], word[2:]
    if word == "-n":
        return SHORT_KEYS["n"], ""
    word = LONG_FLAGS.get(word, word)
    if not word.startswith("--"):
        raise UsageError(f'"{word}" belongs to no flag. Put quotes around a value with spaces')
    name, _, value = word.removeprefix("--").partition("=")
    return name, value


def _is_flag(word: str) -> bool:
    return word.startswith("--") or word in LONG_FLAGS or COMPACT.fullmatch(word) is not None


def _words(text: str) -> list[str]:
    """The words as a shell splits them; without backslashes by two regular expressions, ten times as fast as shlex.

    Raises UsageError for a quotation that is not closed.
    """
    if "\\" not in text and WORDS.fullmatch(text):
        return [_unquoted(word) for word in WORD.findall(text)]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{error} in the flags; write them as a shell does") from error


def _unquoted(word: str) -> str:
    return QUOTED.sub(lambda match: match[0][1:-1], word) if '"' in word or "'" in word else word
