"""Checks the files of a CLIP tokenizer before a library reads them: sizes, length of a prompt, words and their numbers.

The libraries believe these files: a model_max_length of 2^31 makes them ask for 17 GB, and abort the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.files import read_regular
from linfusion_cli.json_files import JsonError, read_json
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.pipeline_settings import read_json_object

CONFIG = "tokenizer_config.json"
LARGEST_TOKENIZER_BYTES = 16 << 20  # CLIP's tokenizer.json has 3.6 MB
LARGEST_WORDS_BYTES = 4 << 20  # CLIP's vocab.json has 1 MB, its merges.txt 0.5 MB
LONGEST_PROMPT = 4096  # tokens; CLIP reads 77
TOKENS = ("pad_token", "bos_token", "eos_token", "unk_token")


def check_tokenizer(folder: Path, words: int, positions: int) -> None:
    """Checks the tokenizer in a folder, where there is one, against its text encoder.

    words: that the text encoder knows, its vocab_size; positions: tokens that it reads at once. Raises WeightsError
    that names the file for another length of a prompt than 1 to `positions`, for a file that is too large or can't be
    read, and for a word whose number the text encoder does not know.
    """
    if (folder / CONFIG).exists():
        _check_config(folder / CONFIG, min(positions, LONGEST_PROMPT))
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        path = folder / name
        if path.exists():
            status = path.stat()
            _check_words(path, words, (status.st_size, status.st_mtime_ns))


def _check_config(path: Path, positions: int) -> None:
    config = read_json_object(path)
    length = config.get("model_max_length")
    if not isinstance(length, int) or isinstance(length, bool) or not 2 <= length <= positions:
        raise WeightsError(
            f"{path}: its model_max_length is {shown(length)}. Allowed: a whole number from 2 to {positions}, "
            "the tokens that its text encoder reads"
        )
    for name in TOKENS:
        token = config.get(name)
        if not isinstance(token, str | None) and not (
            isinstance(token, dict) and isinstance(token.get("content"), str)
        ):
            raise WeightsError(f"{path}: its {name} is {shown(token)}. Allowed: a text")


@lru_cache(maxsize=32)
def _check_words(path: Path, words: int, stamp: tuple[int, int]) -> None:
    """stamp: size and time of the file, so that a long batch reads it once."""
    del stamp
    if path.name == "merges.txt":
        _read_merges(path)
        return
    limit = LARGEST_TOKENIZER_BYTES if path.name == "tokenizer.json" else LARGEST_WORDS_BYTES
    try:
        found = read_json(path, limit)
    except (OSError, JsonError) as error:
        raise WeightsError(f"{path}: can't be used ({shown(str(error), 150)})") from error
    _check_numbers(path, _vocabulary(path, found) if path.name == "tokenizer.json" else found, words)


def _vocabulary(path: Path, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The words of a tokenizer.json and their numbers, with the tokens that were added to them."""
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise WeightsError(f"{path}: it is not a tokenizer: a model with a vocab, and added_tokens are required")
    if not all(isinstance(token, dict) and isinstance(token.get("content"), str) for token in added):
        raise WeightsError(f"{path}: its added_tokens are not tokens")
    return vocabulary | {token["content"]: token.get("id") for token in added}


def _check_numbers(path: Path, vocabulary: Mapping[str, Any], words: int) -> None:
    for word, number in vocabulary.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < words:
            raise WeightsError(
                f"{path}: its word {shown(word, 30)} has the number {shown(number)}. "
                f"Allowed: 0 to {words - 1}, those that its text encoder knows"
            )


def _read_merges(path: Path) -> None:
    try:
        lines = read_regular(path, LARGEST_WORDS_BYTES).decode().splitlines()
    except (OSError, UnicodeError) as error:
        raise WeightsError(f"{path}: can't be used ({shown(str(error), 150)})") from error
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#version") and len(line.split(" ")) != 2:
            raise WeightsError(f"{path}: line {number} is {shown(line)}. Allowed: two parts of a word")
