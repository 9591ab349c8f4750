"""CLIP's tokenizer from the words that ship inside, for single files, which hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from linfusion_cli.weights.clip_words import SPECIAL, clip_merges, clip_vocabulary
from linfusion_cli.weights.pipeline_settings import read_json_object

POSITIONS = 77  # that CLIP reads


def clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that holds only tokenizer_config.json: length and padding differ between families.

    Raises WeightsError, naming the file, if it is missing or no JSON.
    """
    config = read_json_object(folder / "tokenizer_config.json")
    pad = config.get("pad_token") or SPECIAL[1]
    pairs = [tuple(merge.split(" ")) for merge in clip_merges()]
    return CLIPTokenizer(
        vocab=dict(clip_vocabulary()),
        merges=pairs,
        model_max_length=config.get("model_max_length", POSITIONS),
        pad_token=pad["content"] if isinstance(pad, dict) else pad,  # older libraries write a token as an object
    )
