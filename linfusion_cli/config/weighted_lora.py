"""A LoRA as an option names it: where it is, how strongly it acts, and in which stages of an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from linfusion_cli.errors import UsageError, nearest_name

HEAVIEST = 8.0
STAGES = ("base", "upscale")  # the first stage, which composes the image, and those after it
_NUMBER = r":(-?\d+(?:\.\d*)?|-?\.\d+)"
_OTHER_STAGES = {"hires": "upscale", "hr": "upscale", "refiner": "upscale", "lowres": "base", "lr": "base"}


@dataclass(frozen=True, slots=True)
class WeightedLora:
    """A LoRA: where it is and how strongly it acts on the UNet and on the text encoders (-8 to 8 each).

    stages: one of STAGES, "" for all of them. Prompts are read once, for all stages: a LoRA of the upscale leaves the
            text encoders alone.
    """

    location: str
    weight: float = 1.0
    text_weight: float = 1.0
    stages: str = ""

    @staticmethod
    def parse(text: str) -> WeightedLora:
        """Reads "LOCATION", "LOCATION:WEIGHT" or "LOCATION:WEIGHT:TEXT_WEIGHT", and a "@" with stages behind it.

        Raises UsageError for a weight out of range and for unknown stages.
        """
        rest, stages = split_stages(text)
        if not stages:
            _refuse_other_stages(text)
        location, *given = split_numbers(rest)
        weights = [float(value) for value in given] or [1.0]
        if not all(-HEAVIEST <= weight <= HEAVIEST for weight in weights):
            nearest = lora_text(location, [min(max(weight, -HEAVIEST), HEAVIEST) for weight in weights], stages)
            raise UsageError(
                f'"{text}": a weight is from {-HEAVIEST:g} to {HEAVIEST:g}. Nearest: {nearest}', parameter="loras"
            )
        return WeightedLora(location, weights[0], 0.0 if stages == "upscale" else weights[-1], stages)

    def with_weight(self, weight: object) -> str:
        """The same LoRA with another weight, as an option has it."""
        return f"{self.location}:{weight}" + (f"@{self.stages}" if self.stages else "")


def lora_text(location: str, weights: Sequence[float], stages: str = "") -> str:
    """A LoRA as an option has it; a second weight that is the first one is left out."""
    numbers = [f"{weight:.4g}" for weight in weights]
    shown = numbers[:1] if len(set(numbers)) == 1 else numbers
    return ":".join([location, *shown]) + (f"@{stages}" if stages else "")


def split_location(text: str) -> tuple[str, str]:
    """The location, and what stands behind it as it is written: weights and stages."""
    location = split_numbers(split_stages(text)[0])[0]
    return location, text[len(location) :]


def split_stages(text: str) -> tuple[str, str]:
    """The stages behind an "@" at the end, "" without them: on the hub, a revision may follow."""
    rest, _, word = text.rpartition("@")
    return (rest, word) if rest and word in STAGES else (text, "")


def _refuse_other_stages(text: str) -> None:
    """Raises UsageError for another word behind the "@" of a weight or of a file's name."""
    rest, _, word = text.rpartition("@")
    if re.search(rf"(?:\.safetensors|{_NUMBER})$", rest) and re.fullmatch(r"[\w-]*", word):
        nearest = nearest_name(word, STAGES, _OTHER_STAGES) or "upscale"
        what = "a LoRA is for the stages base or upscale, or for all without an @"
        raise UsageError(f'"{text}": {what}. Nearest: {rest}@{nearest}', parameter="loras")


def split_numbers(text: str) -> list[str]:
    """A location and the one or two numbers behind it, if there are."""
    match = re.fullmatch(rf"(.+?)(?:{_NUMBER})?{_NUMBER}", text)
    return [text] if match is None else [part for part in match.groups() if part is not None]
