"""Reads lists of prompts (.txt, .jsonl, .csv, .toml, .yaml) into rows of values, each with the place it came from."""

from __future__ import annotations

import csv
import io
import re
import shlex
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from linfusion_cli.batch.problem_report import counted
from linfusion_cli.config.options import OPTIONS
from linfusion_cli.errors import Message, UsageError, option
from linfusion_cli.files import read_input
from linfusion_cli.json_files import MOST_DEPTH, parse_json_value
from linfusion_cli.toml_files import parse_toml

LARGEST_FILE_BYTES = 256 << 20
FLAG = re.compile(r"(?:^|\s)(?:--[A-Za-z]|-[nop](?=\s))")
LONG_FLAGS = {f"-{short}": f"--{row.words[0]}" for row in OPTIONS for short in row.words if len(short) == 1}
SWITCHES = tuple(row.key.replace("_", "-") for row in OPTIONS if row.is_switch)  # no value; "no-" before it: off
SPACE = " \t\r\n"  # between the words of a shell
WORD = re.compile(rf"""(?:[^{SPACE}"']|"[^"]*"|'[^']*')++""")
WORDS = re.compile(rf"[{SPACE}]*+(?:{WORD.pattern}(?:[{SPACE}]++|$))*+")
PAIR = re.compile(rf"""[{SPACE}]*+--([^{SPACE}"'=]++)[{SPACE}]++({WORD.pattern})(?=[{SPACE}]|$)""")
PAIRS = re.compile(rf"(?:{PAIR.pattern})*+[{SPACE}]*+")
QUOTED = re.compile(r"""\"[^"]*"|'[^']*'""")
SUFFIXES = (".txt", ".jsonl", ".csv", ".toml", ".yaml", ".yml")
LIST_KEYS = ("jobs", "defaults")
OPENINGS = re.compile(rf"(?:[\[{{]\s*+){{{MOST_DEPTH}}}")
VALUE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Row:
    """One line or entry: texts from .txt and .csv, numbers and lists too from the others."""

    place: str  # "prompts.txt:3"
    values: Mapping[str, object]


Found = Iterator[tuple[int, Mapping[str, object] | str]]  # line, values or what is wrong


def read_rows(source: str, problems: list[str]) -> list[Row]:
    """The rows of a file, or of standard input ("-", as .txt).

    What is wrong with a row goes to `problems` as "file:line: text".
    Raises UsageError for a file that can't be read at all.
    """
    name = "stdin" if source == "-" else source
    suffix = Path(source).suffix.lower() if source != "-" else ".txt"
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{source}: the ending says how a list is read. Allowed: {', '.join(SUFFIXES)}, or - for standard input"
        )
    text = _text(_data(source), name)
    rows: list[Row] = []
    for line, found in READERS[suffix](text):
        if isinstance(found, str):
            problems.append(Message(f"{name}:{line}: ", found))
        else:
            rows.append(Row(f"{name}:{line}", found))
    return rows


def _data(source: str) -> bytes:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(LARGEST_FILE_BYTES + 1)
        else:
            data = read_input(Path(source), LARGEST_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"{source}: it can't be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise UsageError(f"{source}: it is larger than {LARGEST_FILE_BYTES >> 20} MiB. Split it")
    return data


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not a text in UTF-8 (byte {error.start}). Save the file as UTF-8") from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers.

    Only a line feed ends a line: a prompt may hold the other characters that Unicode calls line breaks.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _read_txt(text: str) -> Found:
    """A prompt a line; # starts a comment line; flags may follow the prompt or, as in A1111's script, be the line."""
    for number, line in _lines(text):
        if line.lstrip().startswith("#"):
            continue
        try:
            yield number, _flags(line)
        except UsageError as error:
            yield number, error.message


def _flags(line: str) -> dict[str, object]:
    first = FLAG.search(line) if "-" in line else None
    if first is None:
        return {"prompt": line.strip()}
    prompt, rest = line[: first.start()].strip(), line[first.start() :]
    values: dict[str, object] = {"prompt": prompt} if prompt else {}
    for name, value in _pairs(rest):
        if name in values:
            raise UsageError(option(name), " is given twice")
        if value is None:
            raise UsageError(option(name), " lacks its value")
        values[name] = value
    return values


def _pairs(text: str) -> Iterable[tuple[str, str | None]]:
    """The flags with their values: those of nearly all lines by an expression, which long lists feel."""
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
    """None: the value is missing."""
    left = deque(LONG_FLAGS.get(word, word) for word in words)
    while left:
        word = left.popleft()
        if not word.startswith("--"):
            raise UsageError(f'"{word}" belongs to no flag. Put quotes around a value with spaces')
        name, equals, value = word.removeprefix("--").partition("=")
        switch = name.removeprefix("no-")
        if switch in SWITCHES and not equals and (not left or left[0].lower() not in ("true", "false")):
            yield switch, "false" if name.startswith("no-") else "true"
        else:
            yield name, value if equals else (left.popleft() if left else None) or None


def _words(text: str) -> list[str]:
    """The words as a shell splits them. Without backslashes two expressions do it, ten times as fast as shlex.

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


def _read_jsonl(text: str) -> Found:
    for number, line in _lines(text):
        try:
            yield number, _entry(parse_json_value(line, "the line"))
        except ValueError as error:
            yield number, f"no JSON object: {error}"


def _entry(value: object) -> dict[str, object]:
    """An entry of a list: its values, or just the prompt."""
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f'write {{"prompt": "..."}} or "...", not {type(value).__name__}')
    return cast("dict[str, object]", value)


def _read_csv(text: str) -> Found:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, f"no CSV: {error}"
            return
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            if "prompt" not in [name.lower() for name in header] or len(set(header)) < len(header):
                found = ", ".join(f'"{name}"' for name in header)
                rule = 'the first line must name the columns, each once, one of them "prompt", with commas between them'
                yield line, f"{rule}. Found: {found:.200}"
                return
        elif len(cells) > len(header):
            yield (
                line,
                f"{len(cells)} cells, but {counted(len(header), 'column')}. Put quotes around a prompt with commas",
            )
        else:
            yield line, {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}


def _read_toml(text: str) -> Found:
    """[[jobs]] tables or jobs = ["...", ...]; [defaults] holds for all of them."""
    try:
        data = parse_toml(text)
    except ValueError as error:
        found = re.search(r"line (\d+)", str(error))
        yield int(found[1]) if found else text.count("\n") + 1, f"broken TOML: {error}"
        return
    headers = [number for number, line in enumerate(text.split("\n"), 1) if re.match(r"\s*\[\[\s*jobs\s*]]", line)]
    yield from _listed(data, lambda i: headers[i] if i < len(headers) else 1)


def _listed(data: object, line_of: Callable[[int], int]) -> Found:
    """The jobs of a file that is one table with `jobs` and, perhaps, `defaults`; or that is a list of jobs."""
    table = data if isinstance(data, dict) else {"jobs": data}
    jobs, defaults = table.get("jobs"), table.get("defaults", {})
    if unknown := [str(key) for key in table if key not in LIST_KEYS]:
        yield 1, f'unknown key "{unknown[0]}". Allowed: {", ".join(LIST_KEYS)}'
    elif not isinstance(jobs, list) or not isinstance(defaults, dict) or not all(isinstance(k, str) for k in defaults):
        yield 1, "write a list `jobs` of prompts or tables, and perhaps a table `defaults`"
    else:
        for i, job in enumerate(jobs):
            try:
                yield line_of(i), {**defaults, **_entry(job)}
            except ValueError as error:
                yield line_of(i), str(error)


def _is_nested_deep(text: str) -> bool:
    """Whether more than MOST_DEPTH brackets are open at once: the library's time grows with the square."""
    if OPENINGS.search(text):
        return True
    lines = text.split("\n") if not text.lstrip().startswith(("[", "{")) else [text]
    return any(line.count("[") + line.count("{") - line.count("]") - line.count("}") > MOST_DEPTH for line in lines)


def _read_yaml(text: str) -> Found:
    """A list of prompts or mappings, or a mapping with `jobs` and `defaults`; plain data only, without aliases."""
    import yaml

    if _is_nested_deep(text):
        yield 1, f"broken YAML: brackets are nested more than {MOST_DEPTH} deep"
        return
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            yield 1, "aliases (*name) are not allowed: they can make a small file huge"
            return
        node = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, *VALUE_ERRORS) as error:  # its constructors trust what a tag says
        mark = getattr(error, "problem_mark", None)
        yield mark.line + 1 if mark else 1, f"broken YAML: {' '.join(str(error).split())[:200]}"
        return
    items = _items(node)
    yield from _listed(data, lambda i: items[i].start_mark.line + 1 if i < len(items) else 1)


def _items(node: Any) -> list[Any]:
    """The nodes of the list of jobs, for their lines."""
    if node is not None and node.id == "mapping":
        node = next((value for key, value in node.value if key.value == "jobs"), None)
    return list(node.value) if node is not None and node.id == "sequence" else []


READERS: Mapping[str, Callable[[str], Found]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
