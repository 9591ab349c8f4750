"""The record inside an image: what made it, as JSON and in A1111's words, and the command that makes it again."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from linfusion_cli.errors import UsageError
from linfusion_cli.files import open_regular
from linfusion_cli.flag_words import typed, word_of
from linfusion_cli.images.kinds import HEAD_BYTES, format_of
from linfusion_cli.json_files import JsonError, parse_json
from linfusion_cli.output import png_reader
from linfusion_cli.output.formats.exif_xmp import KEYWORD as KEYWORD
from linfusion_cli.output.formats.exif_xmp import PARAMETERS as PARAMETERS
from linfusion_cli.output.formats.exif_xmp import record_text

_WITH_XMP = ("JPEG", "WEBP", "TIFF", "AVIF", "JXL")
_DEEP_ZOOM = b"http://schemas.microsoft.com/deepzoom/"
_NEEDED = {"prompt": str, "preset": str, "seed": int, "width": int, "height": int}
COUNTED_FROM_1 = frozenset({"clip-skip"})  # as it is typed; a record counts from 0, as all older ones do
PLACEHOLDERS = {"prompt": "PROMPT", "negative_prompt": "NEGATIVE"}  # in commands, for texts that are not stored
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def record_texts(record: Mapping[str, object]) -> dict[str, str]:
    """The text chunks of an image: the whole record as ASCII JSON, and A1111's form of it.

    The JSON also holds "command", the words that make the image again. Raises KeyError when the record lacks a value
    that the texts need, and UsageError for an override whose name is no flag.
    """
    whole = {**record, "command": command_words(record)}
    return {KEYWORD: json.dumps(whole, ensure_ascii=True, allow_nan=False), PARAMETERS: parameters_of(record)}


def read_record(path: Path) -> dict[str, object]:
    """The record of an image, a stranger's data: show its texts through visible().

    Raises UsageError if the file is no image, is damaged, or holds no record with the values that command_of needs.
    """
    text = stored_record(path)
    if text is None:
        raise UsageError(f"{str(path)!r} holds no linfusion record: another program made it, or its texts were removed")
    try:
        values: dict[str, object] = parse_json(text, "its linfusion record")
    except JsonError as error:
        raise UsageError(f"{str(path)!r}: {error}") from error
    for key, kind in _NEEDED.items():
        if not isinstance(values.get(key), kind) or isinstance(values[key], bool):
            raise UsageError(f'{str(path)!r}: its linfusion record has no usable "{key}"')
    return values


def holds_prompt(path: Path) -> bool:
    """Whether the record of an image, if it is there and has one, holds a word of its prompt or negative prompt."""
    try:
        record = read_record(path)
    except UsageError:
        return False
    return any(record.get(key) for key in ("prompt", "negative_prompt"))


def stored_record(path: Path) -> str | None:
    """The record's JSON as an image of any format holds it, None where there is none. Raises UsageError."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
        if format_of(head) in _WITH_XMP or _DEEP_ZOOM in head:
            return record_text(path)
    except OSError as error:
        raise UsageError(f"Can't read {str(path)!r}: {error.strerror}") from error
    return png_reader.read_text(path, KEYWORD)


def command_of(record: Mapping[str, object], allowed: frozenset[str] | None = None) -> str:
    """The command that makes the image again, safe to print and to paste into a shell.

    allowed: the overrides that may be part of it, None for all. A record is a stranger's: it must not say where files
    are written, nor which files are loaded.
    Raises UsageError for an override whose name is no flag, and for NUL, which no command line can hold.
    """
    return " ".join(_quoted(word) for word in command_words(record, allowed))


def not_stored(record: Mapping[str, object]) -> tuple[str, ...]:
    """The texts that the image was made with and that its record does not hold: "prompt", "negative_prompt"."""
    names = record.get("not_stored")
    return tuple(name for name in PLACEHOLDERS if isinstance(names, list) and name in names)


def command_words(record: Mapping[str, object], allowed: frozenset[str] | None = None) -> list[str]:
    """The same command as a list of unquoted words."""
    prompt = PLACEHOLDERS["prompt"] if "prompt" in not_stored(record) else str(record["prompt"])
    options = [word for name, value in _options(record, allowed).items() for word in typed(name, value)]
    if image := str(record.get("upscaled") or ""):
        return ["linfusion", "upscale", *options, "--", image, *([prompt] if prompt else [])]
    if prompt.startswith("-"):
        return ["linfusion", "generate", *options, "--", prompt]
    return ["linfusion", "generate", prompt, *options]


def _options(record: Mapping[str, object], allowed: frozenset[str] | None) -> dict[str, object]:
    """The options of the command, as flag_words types them; only the allowed overrides, None for all."""
    left_out = not_stored(record)
    options: dict[str, object] = {
        "preset": record["preset"],
        "size": f"{record['width']}x{record['height']}",
        "seed": record["seed"],
    }
    if negative := PLACEHOLDERS["negative_prompt"] if "negative_prompt" in left_out else record.get("negative_prompt"):
        options["negative-prompt"] = negative
    if left_out:
        options["store-prompt"] = "no"
    overrides = record.get("overrides", {})
    if not isinstance(overrides, dict):
        raise UsageError("the overrides of the record are not a JSON object")
    for name, value in cast("dict[str, object]", overrides).items():
        flag = word_of(name)
        if flag in COUNTED_FROM_1 and isinstance(value, int):
            value += 1
        if not re.fullmatch(r"[a-z][a-z0-9-]*", flag):
            raise UsageError(f'the record overrides "{visible(name)}", which is not a flag')
        if allowed is None or flag in allowed:
            options.setdefault(flag, value)
    return options


def shell_command(prompt: str, options: Mapping[str, object]) -> str:
    """A command that draws a prompt, as a shell reads it; an option of None is left out. Raises UsageError for NUL."""
    words = [word for name, value in options.items() for word in typed(name, value)]
    return " ".join(_quoted(word) for word in ("linfusion", "generate", *words, "--", prompt))


def _quoted(word: str) -> str:
    if word == visible(word):
        return shlex.quote(word)
    encoded = _encoded(word)
    if b"\0" in encoded:
        raise UsageError("the record holds a NUL character, which no command line can hold")
    # $'...' of bash, zsh and ksh: three octal digits can't run into what follows
    return (
        "$'"
        + "".join(chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}" for byte in encoded)
        + "'"
    )


def _encoded(word: str) -> bytes:
    try:
        return word.encode(
            "utf-8", "surrogateescape"
        )  # bytes of a command line that were no UTF-8 come back as they were
    except UnicodeEncodeError:
        return word.encode("utf-8", "backslashreplace")


def parameters_of(record: Mapping[str, object]) -> str:
    """The A1111 form: the prompt, the negative prompt if there is one, and one line of values, each on one line.

    A prompt can't look like one of the other lines: its line breaks become spaces, and it is quoted if it begins like
    one.
    """
    lines = [] if not_stored(record) else [_prompt_line(str(record["prompt"]))]
    if record.get("negative_prompt"):
        lines.append("Negative prompt: " + _one_line(str(record["negative_prompt"])))
    values = {
        "Steps": record["steps"],
        "Sampler": record.get("a1111_sampler", record["scheduler"]),
        **({"Schedule type": schedule} if (schedule := record.get("a1111_schedule")) else {}),
        "CFG scale": record["guidance_scale"],
        **({"Eta DDIM": eta} if (eta := record.get("eta")) is not None else {}),
        "Seed": record["seed"],
        "Size": f"{record['width']}x{record['height']}",
        "Model": record["model"],
        "Version": f"linfusion {record['version']}",
    }
    lines.append(", ".join(f"{name}: {_value(value)}" for name, value in values.items()))
    return "\n".join(lines)


def _prompt_line(prompt: str) -> str:
    line = _one_line(prompt)
    return (
        json.dumps(line, ensure_ascii=False) if re.match(r"(negative prompt|steps)\s*:", line, re.IGNORECASE) else line
    )


def _value(value: object) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:]|^"', text) else text


def _one_line(text: str) -> str:
    """Line breaks become spaces and the other control characters escapes; joiners of emoji and scripts stay."""
    return _escaped(_LINE_BREAKS.sub(" ", text).strip(), frozenset({"Cc", "Cs"}))


def visible(text: str) -> str:
    """The text with every character escaped that a terminal would obey or hide, so that it can be printed."""
    return _escaped(text, _HIDDEN)


def _escaped(text: str, categories: frozenset[str]) -> str:
    if text.isprintable():  # true for most, and quick: of the categories C* and Z* it allows the plain space alone
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in categories else char
        for char in text
    )
