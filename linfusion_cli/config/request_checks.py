"""The checks of what a request says itself: texts, numbers, devices and amounts of memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from linfusion_cli.config.options import by_key
from linfusion_cli.config.presets import one_of
from linfusion_cli.config.prompt_weighting import parse_weights, plain_text
from linfusion_cli.config.value_range import number_text
from linfusion_cli.errors import UsageError, option

LARGEST_PROMPT_BYTES = 65536
NO_FILE = Path("-")  # a preview that is sent as an event alone
JPEG_SUFFIXES = (".jpg", ".jpeg")
Number = TypeVar("Number", int, float)
BYTES_PER_UNIT = {
    "": 1,
    "K": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "KI": 1024,
    "MI": 1024**2,
    "GI": 1024**3,
    "TI": 1024**4,
}


def checked_prompt(text: str, *, may_be_empty: bool, weights: bool = False) -> str:
    """The prompt as it is used.

    Raises UsageError for one that is too long, no text, of broken weights, or empty where it must not be.
    """
    prompt = checked_text(text, "the prompt", weights=weights)
    words = plain_text(parse_weights(prompt).fragments) if weights else prompt
    if not may_be_empty and not any(letter.isprintable() and letter != " " for letter in words):
        raise UsageError(
            'the prompt is empty. Say what to draw, for example: linfusion generate "a mountain lake at dawn"'
        )
    return prompt


def checked_text(text: str, what: str, *, weights: bool) -> str:
    """A text without the space around it. Raises UsageError, which names it as `what`."""
    with suppress(UnicodeError):  # without a locale of its own (LANG=C) Python hands on what was typed byte by byte
        text = os.fsencode(text).decode()
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not a text in UTF-8: see character {error.start + 1}") from error
    if length > LARGEST_PROMPT_BYTES:
        raise UsageError(f"{what} has {length} bytes: at most {LARGEST_PROMPT_BYTES}")
    if weights:
        parse_weights(text.strip(), what)
    return text.strip()


def checked_number(key: str, value: Number) -> Number:
    """The value of an option in the range of its row. Raises UsageError that names the nearest allowed one."""
    row = by_key()[key]
    if row.range is not None and value not in row.range:
        nearest = row.range.nearest(value)
        allowed = f"write {row.range.words(row.kind)}" + (f". Nearest: {nearest}" if nearest else "")
        raise UsageError(f"{number_text(value)}: {allowed}", parameter=key)
    return value


def checked_device(device: str) -> str:
    """A device's name. Raises UsageError for anything but auto, cpu, mps, cuda and cuda:N."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device):
        raise UsageError(f'"{device}": {one_of(device, by_key()["device"].completions(""))}', parameter="device")
    return device


def checked_choice(key: str, word: str) -> str:
    """The value of an option, if it is one of the choices of its row. Raises UsageError that names them."""
    choices = by_key()[key].choices
    if word not in choices:
        raise UsageError(f'"{word}": {one_of(word, choices)}', parameter=key)
    return word


def checked_preview(path: Path | None, every: int | None, taken: Iterable[Path] = ()) -> tuple[Path | None, int]:
    """The file of previews, None for none, and after how many steps each is made, 0 for nothing said.

    Raises UsageError for steps out of range or without a file, for a file that is no JPEG, and for one of `taken`,
    which the first preview would replace.
    """
    if every is not None:
        checked_number("preview_every", every)
        if path is None:
            raise UsageError("says how often ", option("preview"), " is made: give both", parameter="preview_every")
    if path is not None and path != NO_FILE:
        if path.suffix.lower() not in JPEG_SUFFIXES:
            advice = f"a preview is a JPEG file, or - for the terminal. Nearest: {path.stem or 'preview'}.jpg"
            raise UsageError(f'"{path}": {advice}', parameter="preview")
        if any(path.absolute() == other.absolute() for other in taken):
            advice = f"it is the image, or one that it is made from. Nearest: {path.stem}-preview.jpg"
            raise UsageError(f'"{path}": {advice}', parameter="preview")
    return path, every or 0


MOST_MEMORY_BYTES = 1e18


def parse_bytes(text: str) -> int:
    """Reads "6GB", "800MiB" or "1.5G" (= 1.5 GB; k, M, G and T are powers of 1000, Ki, Mi, Gi and Ti of 1024).

    Raises UsageError for anything else and for less than one byte.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match or (text.strip().isdigit() and text.strip() != "0"):
        raise UsageError(
            f'"{text}": write a number and a unit, for example 6GB, 800MiB or 1.5G', parameter="max_memory"
        )
    number = float(match[1]) * BYTES_PER_UNIT[match[2] or ""]
    if number > MOST_MEMORY_BYTES:
        raise UsageError(f'"{text:.40}": no machine has so much. Nearest: 1000000TB', parameter="max_memory")
    amount = int(number)
    if amount < 1:
        raise UsageError(
            f'"{text}": nothing fits into no memory. Write for example 6GB, or leave it out for what the machine has',
            parameter="max_memory",
        )
    return amount
