"""What ships inside: the built-in model, and the shapes and the words of the three families."""

from __future__ import annotations

from pathlib import Path

PREFIX = "builtin:"
CLASSIFIER = (
    Path(__file__).parent / "classifier.safetensors"
)  # names the attributes of procedural scenes (linfusion evaluate)


def builtin_folder(location: str) -> Path | None:
    """The folder of a location such as "builtin:landscape"; None if the location is no built-in model."""
    if not location.startswith(PREFIX):
        return None
    return Path(__file__).parent / location.removeprefix(PREFIX)


def builtin_names() -> list[str]:
    """The names behind PREFIX."""
    return sorted(index.parent.name for index in Path(__file__).parent.glob("*/model_index.json"))


def family_folder(family: str) -> Path:
    """A family's model in diffusers layout without weights: the configs that a single file does not hold."""
    return Path(__file__).parent / "families" / family


def clip_merges_file() -> Path:
    """The merges of CLIP's byte-pair encoding (OpenAI, MIT licence), which all three families read text with."""
    return Path(__file__).parent / "families" / "clip_merges.txt.gz"
