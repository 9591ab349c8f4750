"""Says what a file is that is no list of prompts, and takes the numbers and bullets of a list that people wrote off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from linfusion_cli.batch.list_text import filled_lines, lines_of
from linfusion_cli.json_files import parse_json_value

LARGEST_JSON_BYTES = 256 << 20
NUMBER = re.compile(r"\s*(\d{1,6})[.)]\s+(?=\S)")
BULLET = re.compile(r"\s*([-*•])\s+(?=\S)")
NODE = "class_type"  # of a workflow in the form that ComfyUI runs
SHOWN_TEXTS, SHOWN_CHARACTERS = 2, 60
WEB_PAGE = re.compile(r"\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
LFS_POINTER = "version https://git-lfs.github.com/spec"
COMFYUI = "a workflow of ComfyUI, not a list of prompts"
ADVICE = "Write its prompts in a .txt file, one on each line"


def without_marks(text: str) -> tuple[str, str]:
    """A .txt list without the numbers "1." or "1)", or the bullets, at the start of its lines, and a note of it.

    They are taken off if every prompt has one, and the numbers count on by one from 0 or 1; else the text stays as it
    is, and the note is "".
    """
    prompts = [(line, content) for line, content in filled_lines(text) if not content.lstrip().startswith("#")]
    for pattern, name in ((NUMBER, "numbers"), (BULLET, "bullets")):
        marks = _marks(prompts, pattern)
        if marks and (name == "bullets" or _counts_on(marks)):
            marked = {line for line, _ in prompts}
            kept = [
                pattern.sub("", content, count=1) if line in marked else content for line, content in lines_of(text)
            ]
            first = prompts[0][1].strip()[:SHOWN_CHARACTERS]
            return "\n".join(kept), f'the {name} at the start of its lines ("{first}") are not part of the prompts'
    return text, ""


def _marks(prompts: list[tuple[int, str]], pattern: re.Pattern[str]) -> list[str]:
    """The mark of every prompt; [] as soon as one has none."""
    marks = []
    for _, content in prompts:
        found = pattern.match(content)
        if found is None:
            return []
        marks.append(found[1])
    return marks


def _counts_on(marks: list[str]) -> bool:
    first = int(marks[0])
    return first in (0, 1) and [int(mark) for mark in marks] == list(range(first, first + len(marks)))


def other_text(text: str) -> str:
    """What a file is that was saved in place of a list, as the end of a sentence; "" for all others."""
    if WEB_PAGE.match(text):
        return "a web page (HTML), not the list itself. Download the list that the page shows"
    if text.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the list itself. Fetch it with: git lfs pull"
    return json_in_text(text)


def json_in_text(text: str) -> str:
    """What the JSON in a file that is read as text is, as the end of a sentence; "" for text."""
    _, line = next(filled_lines(text), (1, ""))
    if line.lstrip()[:1] not in ("{", "["):
        return ""
    for part, ending in ((text, ".json"), (line, ".jsonl")):
        try:
            data = parse_json_value(part, "the file", LARGEST_JSON_BYTES)
        except ValueError:
            continue
        if what := foreign_document(data):
            return what
        entries = data if isinstance(data, list) else [data] * bool(data)
        if entries and all(
            isinstance(entry, dict) or (isinstance(entry, str) and ending == ".json") for entry in entries
        ):
            return f"JSON. Name it {ending}, so that it is read as that"
    return ""


def foreign_document(data: object) -> str:
    """What a JSON document of another program is, as the end of a sentence; "" for others."""
    if isinstance(data, dict) and isinstance(data.get("nodes"), list) and "links" in data:
        return f"{COMFYUI}{_shown(_widget_texts(data['nodes']))}. {ADVICE}"
    nodes = list(data.values()) if isinstance(data, dict) else data if isinstance(data, list) else []
    if any(isinstance(node, dict) and NODE in node for node in nodes):
        return f"{COMFYUI}{_shown(_input_texts(nodes))}. {ADVICE}"
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):  # as ComfyUI's interface is sent a workflow
        return foreign_document(data["prompt"])
    return ""


def _input_texts(nodes: list[object]) -> Iterator[str]:
    for node in nodes:
        inputs = node.get("inputs") if isinstance(node, dict) else None
        text = inputs.get("text") if isinstance(inputs, Mapping) else None
        if isinstance(text, str) and text.strip():
            yield text


def _widget_texts(nodes: list[object]) -> Iterator[str]:
    """The texts of the nodes that encode text, in the form that ComfyUI's editor saves."""
    for node in nodes:
        values = node.get("widgets_values") if isinstance(node, dict) else None
        if isinstance(values, list) and isinstance(node, dict) and "TextEncode" in str(node.get("type")):
            yield from (value for value in values[:1] if isinstance(value, str) and value.strip())


def _shown(texts: Iterator[str]) -> str:
    shown = [
        f'"{" ".join(text.split())[:SHOWN_CHARACTERS]}"' for text, _ in zip(texts, range(SHOWN_TEXTS), strict=False)
    ]
    return f" (it holds {' and '.join(shown)})" if shown else ""
