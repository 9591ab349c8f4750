"""The values that a row of a list may have: their types, seeds, counts, and how a text becomes one of them."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.config.choices import STORE_PROMPT
from linfusion_cli.config.option_rows import LARGEST_SEED
from linfusion_cli.config.options import all_rows
from linfusion_cli.errors import UsageError, option

MOST_TASKS = 1_000_000
MOST_COUNT = 10_000
# How many images of a prompt, each with a seed of its own. A1111 multiplies two numbers.
COUNTS = {
    "count": "count",
    "n_iter": "count",
    "batch_count": "count",
    "iterations": "count",
    "batch_size": "batch_size",
}
RANDOM_SEEDS = ("-1", "-1.0", "random")
_YES_OR_NO = {row.key: row.choices for row in all_rows() if row.choices == STORE_PROMPT}  # true and false in YAML
RANGE = re.compile(r"(\d{1,10})(?:\.\.(\d{1,10}))?")


def row_types() -> dict[str, object]:
    """The keys that a row may have, with the types of their values: the options that may differ between images."""
    return {row.key: row.request_type for row in all_rows() if row.in_batch_rows}


def seeds_of(text: str, *, of_option: bool = True) -> Iterator[int]:
    """The seeds of "7", "1..8" or "1,5,20..29".

    Raises UsageError for anything else: of the option "seeds", or of the key "seed" in a row of a list.
    """
    name, parameter = (f'"{text}"', "seeds") if of_option else (f'seed = "{text}"', "")
    for part in text.split(","):
        span = RANGE.fullmatch(part.strip())
        if not span:
            allowed = f"numbers and ranges, like 7 or 1..8 or 1,5,20..29, from 0 to {LARGEST_SEED}, or -1 alone"
            raise UsageError(f"{name}: write {allowed}", parameter=parameter)
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first:
            raise UsageError(f"{name}: write them upwards: {last}..{first}", parameter=parameter)
        if last > LARGEST_SEED or last - first >= MOST_TASKS:
            allowed = f"a seed is a whole number from 0 to {LARGEST_SEED}, and a range has {MOST_TASKS:,} at most"
            raise UsageError(f"{name}: {allowed}", parameter=parameter)
        yield from range(first, last + 1)


def counted_images(key: str, value: object) -> int:
    """The number of images that a row asks for, 1 or more. Raises UsageError for anything else."""
    try:
        count = int(converted(key, value, wants(int)))
    except UsageError as error:
        raise UsageError(error, "; what not to draw is ", option("negative_prompt")) from error
    if not 1 <= count <= MOST_COUNT:
        raise UsageError(f"{key} = {count}: write a whole number from 1 to {MOST_COUNT:,}")
    return count


@dataclass(frozen=True, slots=True)
class Wanted:
    """The values that a key of Request takes: of these types, or lists of items of such types."""

    kinds: frozenset[object]
    items: Wanted | None  # None: no list
    words: str
    any_text: bool  # as it is written


def wants(hint: object) -> Wanted:
    kinds = frozenset(typing.get_args(hint)) if isinstance(hint, types.UnionType) else frozenset({hint})
    words = next(
        (
            words
            for kind, words in ((bool, "true or false"), (int, "a whole number"), (float, "a number"))
            if kind in kinds
        ),
        "a text",
    )
    items = wants(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else None
    return Wanted(kinds, items, words, any_text=kinds <= {str, types.NoneType})


def converted(key: str, value: object, wanted: Wanted) -> typing.Any:
    """A value of a row, converted to the type that Request has. Raises UsageError for one of another type."""
    text, kinds = isinstance(value, str), wanted.kinds
    if text and wanted.any_text:
        return value
    if isinstance(value, bool) and key in _YES_OR_NO:
        return _YES_OR_NO[key][not value]
    if wanted.items:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(converted(key, item, wanted.items) for item in items)
    if bool in kinds and (isinstance(value, bool) or (text and str(value).lower() in ("true", "false"))):
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{key} = {_written(value)}: write {wanted.words}")
    for kind, convert in ((int, _whole), (float, float)):
        if kind in kinds:
            try:
                return convert(value)
            except (ValueError, OverflowError) as error:
                raise UsageError(f"{key} = {_written(value)}: write {wanted.words}") from error
    return Path(str(value)) if Path in kinds else str(value)


def _written(value: object) -> str:
    """A value as a list has it (true, null, "text"), cut to a line."""
    return f"{json.dumps(value, default=str, ensure_ascii=False):.60}"


def _whole(value: str | int | float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)
