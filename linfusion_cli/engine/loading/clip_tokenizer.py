"""CLIP's tokenizer from the words that ship inside, for single files, which hold none."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from linfusion_cli.models import clip_merges_file
from linfusion_cli.weights.pipeline_settings import read_json_object

POSITIONS = 77  # that CLIP reads
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that holds only tokenizer_config.json: length and padding differ between families.

    Raises WeightsError, naming the file, if it is missing or no JSON.
    """
    config = read_json_object(folder / "tokenizer_config.json")
    pad = config.get("pad_token") or SPECIAL[1]
    merges = gzip.decompress(clip_merges_file().read_bytes()).decode().splitlines()
    letters = byte_letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
        *SPECIAL,
    ]
    pairs = [tuple(merge.split(" ")) for merge in merges]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=pairs,
        model_max_length=config.get("model_max_length", POSITIONS),
        pad_token=pad["content"] if isinstance(pad, dict) else pad,  # older libraries write a token as an object
    )


def byte_letters() -> list[str]:
    """A visible letter for every byte, in the order of CLIP's vocabulary: the printable ones first, as themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(len(hidden))]
