"""Reads lists of prompts (.txt, .csv, .json, .toml, .yaml, ...) into rows of values, each with its file and line."""

from __future__ import annotations

import csv
import io
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from linfusion_cli.batch.foreign_lists import foreign_document, other_text, without_marks
from linfusion_cli.batch.list_text import LINE_END, decoded, filled_lines, lines_of
from linfusion_cli.batch.prompt_conventions import PROMPT_NAMES, own_names, plain_values
from linfusion_cli.batch.prompt_lines import read_txt
from linfusion_cli.errors import Message, UsageError, counted
from linfusion_cli.files import read_input
from linfusion_cli.json_files import MOST_DEPTH, parse_json_value
from linfusion_cli.toml_files import parse_toml

LARGEST_FILE_BYTES = 256 << 20
LIST_KEYS = ("jobs", "defaults")
OPENINGS = re.compile(rf"(?:[\[{{]\s*+){{{MOST_DEPTH}}}")
JSON_MARKS = re.compile(r'"(?:\\.|[^"\\])*+"|[\[\]{},]')
BLANKS = re.compile(r"\s*+")
VALUE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Row:
    """One line or entry: texts from .txt and .csv, numbers and lists too from the others."""

    place: str  # "prompts.txt:3"
    values: Mapping[str, object]
    header: str = ""  # of a table: where its columns are named, "prompts.csv:1"; a column may hold what is no option


Found = Iterator[tuple[int, Mapping[str, object] | str]]  # line, values or what is wrong


def read_rows(source: str, problems: list[str], notes: list[str] | None = None) -> list[Row]:
    """The rows of a file, or of standard input ("-", as .txt).

    Errors of single rows are added to `problems` as "file:line: text", ignored values to `notes`.
    Raises UsageError for a file that can't be read at all.
    """
    name = "stdin" if source == "-" else source
    suffix = Path(source).suffix.lower() if source != "-" else ".txt"
    if suffix not in READERS:
        raise UsageError(
            f"{source}: the ending says how a list is read. Allowed: {', '.join(READERS)}, or - for standard input"
        )
    text = decoded(_data(source), name)
    if suffix == ".txt":
        if what := other_text(text):
            raise UsageError(f"{name}: it is {what}")
        text, marks = without_marks(text)
        if marks and notes is not None:
            notes.append(f"{name}: {marks}")
    header = f"{name}:{next(filled_lines(text), (1, ''))[0]}" if suffix in TABLES else ""
    rows: list[Row] = []
    for line, found in READERS[suffix](text):
        if isinstance(found, str):
            problems.append(Message(f"{name}:{line}: ", found))
            continue
        named, without_effect = own_names(found)
        if without_effect and notes is not None:
            notes.append(f"{name}:{line}: of other tools alone, and not used: {', '.join(without_effect)}")
        values, unused = plain_values(named)
        rows.append(Row(f"{name}:{line}", values, header))
        if unused and notes is not None:
            notes.append(f"{name}:{line}: not used of the pasted settings: {', '.join(unused)}")
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


def _read_jsonl(text: str) -> Found:
    for number, line in filled_lines(text):
        try:
            entry = parse_json_value(line, "the line")
            what = foreign_document(entry)
            yield number, f"it is {what}" if what else _entry(entry)
        except ValueError as error:
            yield number, f"not a JSON object: {error}"


def _entry(value: object) -> dict[str, object]:
    """An entry of a list: its values, or just the prompt."""
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f'write {{"prompt": "..."}} or "...", not {type(value).__name__}')
    return cast("dict[str, object]", value)


def _read_csv(text: str) -> Found:
    return _read_table(text, ",")


def _read_tsv(text: str) -> Found:
    return _read_table(text, "\t")


def _delimiter(text: str, usual: str) -> str:
    """The delimiter of the cells; spreadsheets write semicolons where the comma is the decimal separator."""
    header = next((line for _, line in filled_lines(text)), "")
    return next(
        (mark for mark in (usual, ",", ";", "\t") if mark in header and _names_a_prompt(header.split(mark))),
        usual,
    )


def _names_a_prompt(cells: list[str]) -> bool:
    return not {cell.strip(' "').lower().replace(" ", "_") for cell in cells}.isdisjoint(PROMPT_NAMES)


def _read_table(text: str, usual_delimiter: str) -> Found:
    """The rows of a table whose first line names the columns; an empty cell is a value that is not given."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        skipinitialspace=True,
        delimiter=_delimiter(text, usual_delimiter),
    )
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, f"not CSV: {error}"
            return
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            if problem := _header_problem(header):
                yield line, problem
                return
        else:
            yield line, _cells(header, cells)


def _header_problem(header: list[str]) -> str:
    """What is wrong with the names of the columns; "": nothing."""
    names = [name.lower() for name in header if name]
    if _names_a_prompt(names) and len(set(names)) == len(names):
        return ""
    found = ", ".join(f'"{name}"' for name in header)
    rule = 'the first line must name the columns, each once, one of them "prompt", with commas between them'
    return f"{rule}. Found: {found:.200}"


def _cells(header: list[str], cells: list[str]) -> dict[str, object] | str:
    """The values of a row by their columns, or what is wrong with it."""
    filled = len(cells) - next((i for i, cell in enumerate(reversed(cells)) if cell.strip()), len(cells))
    if filled > len(header):
        return f"{filled} cells, but {counted(len(header), 'column')}. Put quotes around a prompt with commas"
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}


def _read_json(text: str) -> Found:
    """A list of prompts or objects, or an object with `jobs` and `defaults`; or JSON lines, as some name them."""
    try:
        data = parse_json_value(text, "the file", LARGEST_FILE_BYTES)
    except ValueError as error:
        if text.lstrip().startswith("{") and _is_entry(next(filled_lines(text))[1]):
            yield from _read_jsonl(text)
            return
        at = re.search(r"at line (\d+)", str(error))
        yield int(at[1]) if at else 1, f"broken JSON: {error}"
        return
    if isinstance(data, dict) and "jobs" not in data and isinstance(data.get("prompt"), str):
        data = [data]
    starts = _entry_starts(text, in_object=isinstance(data, dict))
    ends = [match.end() for match in LINE_END.finditer(text)]
    yield from _listed(data, lambda i: bisect_right(ends, starts[i]) + 1 if i < len(starts) else 1)


def _is_entry(line: str) -> bool:
    try:
        _entry(parse_json_value(line, "the line"))
    except ValueError:
        return False
    return True


def _entry_starts(text: str, *, in_object: bool) -> list[int]:
    """Where in a sound JSON text each entry of the list of jobs begins."""
    starts: list[int] = []
    depth, within, last = 0, not in_object, ""
    level = 2 if in_object else 1
    for match in JSON_MARKS.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            within = within or (mark == "[" and depth == level and last == '"jobs"')
        if within and depth == level and mark in "[,":
            starts.append(cast("re.Match[str]", BLANKS.match(text, match.end())).end())
        if mark in "]}":
            within = within and depth > level
            depth -= 1
        last = mark if mark[0] == '"' else ""
    return starts


def _read_toml(text: str) -> Found:
    """[[jobs]] tables or jobs = ["...", ...]; [defaults] holds for all of them."""
    try:
        data = parse_toml(LINE_END.sub("\n", text))  # TOML knows no lines that CR alone ends
    except ValueError as error:
        found = re.search(r"line (\d+)", str(error))
        yield int(found[1]) if found else text.count("\n") + 1, f"broken TOML: {error}"
        return
    headers = [number for number, line in lines_of(text) if re.match(r"\s*\[\[\s*jobs\s*]]", line)]
    yield from _listed(data, lambda i: headers[i] if i < len(headers) else 1)


def _listed(data: object, line_of: Callable[[int], int]) -> Found:
    """The jobs of a file that is one table with `jobs` and, perhaps, `defaults`; or that is a list of jobs."""
    if what := foreign_document(data):
        yield 1, f"it is {what}"
        return
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
    ".txt": read_txt,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
TABLES = (".csv", ".tsv")
