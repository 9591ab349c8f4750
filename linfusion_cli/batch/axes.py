"""The axes of a grid of images: an option and the values that it takes along a side, such as guidance=3,5,7.5."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linfusion_cli.batch.row_values import seeds_of
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.weighted_lora import WeightedLora
from linfusion_cli.errors import UsageError, nearest_name

LORA_WEIGHT = "lora_weight"  # of the LoRAs that are given
MOST_VALUES = 100
TEXT_KEYS = frozenset({"negative_prompt"})  # of axes
_SPAN = re.compile(r"\s*-?\d{1,9}\.\.-?\d{1,9}\s*")


@dataclass(frozen=True, slots=True)
class Axis:
    """An option, and its values as a row of a list has them."""

    key: str
    values: tuple[object, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """ "guidance 7.5", one for each value."""
        name = self.key.replace("_", " ")
        return tuple(f"{name} {_shown(value)}" for value in self.values)

    @property
    def plain_labels(self) -> tuple[str, ...]:
        """The same without the words of a negative prompt, "negative prompt 2": for files that hold no prompt."""
        if self.key not in TEXT_KEYS:
            return self.labels
        return tuple(f"{self.key.replace('_', ' ')} {number}" for number in range(1, len(self.values) + 1))

    def row(self, number: int, loras: Sequence[str]) -> Mapping[str, object]:
        """The keys and values of an image's row for value `number`, from 0. loras: those that are given."""
        value = self.values[number]
        if self.key != LORA_WEIGHT:
            return {self.key: value}
        return {"loras": [WeightedLora.parse(lora).with_weight(value) for lora in loras]}


def axis_of(text: str, loras: Sequence[str]) -> Axis:
    """Reads "seed=1..4" or "guidance=3,5,7.5". loras: those that are given.

    Raises UsageError for an option that is unknown or can't vary, and for a value out of range.
    """
    name, equals, values = text.partition("=")
    key = re.sub(r"[\s-]+", "_", name.strip().lower())
    rows = [row for row in all_rows() if row.in_batch_rows and row.decides_pixels and row.key != "prompt"]
    names = {word: row.key for row in rows for word in row.batch_names}
    names[LORA_WEIGHT] = LORA_WEIGHT
    if not equals or not values.strip():
        raise UsageError(f'axis "{text}": write an option and its values, for example seed=1..4 or guidance=3,5,7.5')
    if key not in names:
        close = nearest_name(key, names)
        hint = f'Did you mean "{close}"?' if close else f"Allowed: {', '.join(dict.fromkeys(names.values()))}"
        raise UsageError(f'axis "{text}": unknown option "{name.strip()}". {hint}')
    if names[key] == LORA_WEIGHT and not loras:
        raise UsageError(f'axis "{text}": there is no LoRA. Give one with its option, and its weight is replaced')
    found = _values(names[key], values)
    if len(found) > MOST_VALUES:
        raise UsageError(f'axis "{text}": {len(found)} values are too many: at most {MOST_VALUES}')
    return Axis(names[key], found)


def _values(key: str, text: str) -> tuple[object, ...]:
    """The values of a text; numbers are converted where the images are planned, with the checks of a list."""
    if key == "seed":
        return tuple(dict.fromkeys(seeds_of(text)))
    whole = {row.key for row in all_rows() if row.kind is int}
    found: list[object] = []
    for part in text.split(","):
        if key in whole and _SPAN.fullmatch(part):
            first, last = (int(end) for end in part.split(".."))
            found += range(first, last + 1)
        else:
            found.append(part.strip())
    return tuple(dict.fromkeys(found))


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"...{text[-37:]}"
