"""LoRAs named in the prompt, <lora:NAME:WEIGHT> as AUTOMATIC1111 has them, where a folder of models is configured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.config.weighted_lora import HEAVIEST
from linfusion_cli.errors import UsageError, nearest_name
from linfusion_cli.weights.model_folders import ModelFolders

# A space before the tag goes with it. <lyco: is the older word of A1111's LyCORIS extension.
TAG = re.compile(r"[ \t]?<(?:lora|lyco):([^<>\n]*)>", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)")
WEIGHTS = {"te": "text encoders", "unet": "UNet"}  # in A1111's order; the option has the UNet's first


@dataclass(frozen=True, slots=True)
class PromptLoras:
    """What the tags of a prompt ask for. loras: as the option of that name takes them, with paths for names."""

    loras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # of tags whose two weights differ: how they were read


def split_tags(prompt: str, folders: ModelFolders) -> tuple[str, tuple[str, ...]]:
    """The prompt without its tags, and the tags; with no folder of models they stay, for the note on foreign signs."""
    if "<" not in prompt or not TAG.search(prompt) or not folders.roots:
        return prompt, ()
    return TAG.sub("", prompt).strip(), tuple(found[0].strip() for found in TAG.finditer(prompt))


def read_tags(tags: tuple[str, ...], folders: ModelFolders) -> PromptLoras:
    """The LoRAs of these tags, in their order.

    <lora:NAME:W> is the option's NAME:W. Of two weights the first is for the text encoders and the second for the
    UNet, as in A1111; te=W and unet=W name them. Raises UsageError for what is no weight, and WeightsError for a name
    that no configured folder has.
    """
    read = [_read(tag, folders) for tag in tags]
    return PromptLoras(tuple(lora for lora, _ in read), tuple(note for _, note in read if note))


def _read(tag: str, folders: ModelFolders) -> tuple[str, str]:
    """A LoRA as the option takes it, and a note or nothing."""
    name, *parts = (part.strip() for part in tag[1:-1].split(":")[1:])
    path = _path(tag, name, folders)
    text, unet = _weights(tag, parts)
    if not text and not unet:
        return str(path), ""
    text = text or "1"
    if not unet or float(text) == float(unet):
        return f"{path}:{text}", ""
    note = f"{tag:.60}: read as {unet} for the UNet and {text} for the text encoders, as A1111 does"
    return f"{path}:{unet}:{text}", note


def _path(tag: str, name: str, folders: ModelFolders) -> Path:
    if not name:
        raise UsageError(f"{tag:.60}: it names no file. Write <lora:NAME:0.8>; linfusion models lists the names")
    return folders.path_of(name, "loras")


def _weights(tag: str, parts: list[str]) -> tuple[str, str]:
    """The weights of the text encoders and of the UNet as they are written, "" for one that is not."""
    found: dict[str, str] = {}
    unnamed = iter(WEIGHTS)
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            key, value = next(unnamed, ""), part
        if key not in WEIGHTS:
            raise UsageError(f'{tag:.60}: "{part:.30}" is not used here. {_advice(key, equals)}')
        if key in found:
            raise UsageError(
                f'{tag:.60}: the weight of the {WEIGHTS[key]} is given twice, "{found[key]}" and "{value}"'
            )
        found[key] = _weight(tag, value)
    return found.get("te", ""), found.get("unet", "")


def _advice(key: str, equals: str) -> str:
    if equals and (near := nearest_name(key, WEIGHTS)):
        return f'Did you mean "{near}="?'
    return "A tag has a name and one or two weights, like <lora:NAME:0.8>, or te= and unet="


def _weight(tag: str, text: str) -> str:
    """A weight without a plus sign. Raises UsageError for what is no number and for one out of range."""
    if not NUMBER.fullmatch(text):
        raise UsageError(f'{tag:.60}: "{text:.30}" is not a weight. Write a number, like 0.8')
    if abs(float(text)) > HEAVIEST:
        nearest = max(-HEAVIEST, min(HEAVIEST, float(text)))
        raise UsageError(f"{tag:.60}: a weight is from {-HEAVIEST:g} to {HEAVIEST:g}. Nearest: {nearest:g}")
    return text.removeprefix("+")
