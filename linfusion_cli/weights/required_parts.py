"""Whether a model on this machine has every part that loading reads: its config, its weights, its tokenizer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.single_file import named_part
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS, TOKENIZERS
from linfusion_cli.weights.tokenizer_files import CONFIG, has_words, tokenizer_class
from linfusion_cli.weights.weight_file import WeightFile, headers_in


def require_parts(weights: WeightFile, folder: Path, replaced: Collection[str], *, two_text_encoders: bool) -> None:
    """Raises WeightsError, in loading's words, for the first part that a model lacks.

    folder: with the parts' configs, the model itself or beside one file; replaced: parts that others are used for
    """
    count = 2 if two_text_encoders else 1
    read_json_object(folder / "scheduler" / "scheduler_config.json")
    for part in ("unet", *TEXT_ENCODERS[:count], "vae"):
        if part not in replaced:
            _require_part(weights, folder, part)
    for part in TOKENIZERS[:count]:
        if weights.path == folder or has_words(folder / part):
            tokenizer_class(folder, part)
        else:  # CLIP's own words
            read_json_object(folder / part / CONFIG)


def _require_part(weights: WeightFile, folder: Path, part: str) -> None:
    read_json_object(folder / part / "config.json")
    if weights.path == folder:
        headers_in(weights.headers, folder / part)
    else:
        named_part(weights.header, part)
