"""CLIP's tokenizer from the words that ship inside, for single files, which hold none."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from linfusion_cli.json_files import read_json
from linfusion_cli.models import clip_merges_file

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that holds only tokenizer_config.json: length and padding differ between families."""
    config = read_json(folder / "tokenizer_config.json")
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
        vocab=vocabulary, merges=pairs, model_max_length=config["model_max_length"], pad_token=config["pad_token"]
    )


def byte_letters() -> list[str]:
    """A visible letter for every byte, in the order of CLIP's vocabulary: the printable ones first, as themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(len(hidden))]
