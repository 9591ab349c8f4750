"""CLIP's vocabulary from the merges that ship inside, for models whose files hold no words."""

from __future__ import annotations

import gzip
from functools import lru_cache

from linfusion_cli.models import clip_merges_file

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


@lru_cache(maxsize=1)
def clip_merges() -> tuple[str, ...]:
    """The merges, two parts of a word in each, the most frequent first."""
    return tuple(gzip.decompress(clip_merges_file().read_bytes()).decode().splitlines())


@lru_cache(maxsize=1)
def clip_vocabulary() -> dict[str, int]:
    """The words and their numbers. Nobody may change it."""
    letters = byte_letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in clip_merges()),
        *SPECIAL,
    ]
    return {word: number for number, word in enumerate(words)}


def byte_letters() -> list[str]:
    """A visible letter for every byte, in the order of CLIP's vocabulary: the printable ones first, as themselves."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) for byte in visible] + [chr(256 + number) for number in range(len(hidden))]
