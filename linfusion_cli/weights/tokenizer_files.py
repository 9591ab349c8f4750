"""Checks the files of a CLIP tokenizer before a library reads them: sizes, length of a prompt, words and their numbers.

The libraries believe these files: a model_max_length of 2^31 makes them ask for 17 GB, and abort the process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.files import read_regular
from linfusion_cli.json_files import JsonError, read_json
from linfusion_cli.weights.clip_words import SPECIAL, clip_vocabulary
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.pipeline_settings import INDEX, read_json_object

CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
OF_CLIP = CLASSES[:2]  # which also read the words from two older files
ONE_FILE, OLDER_FILES = "tokenizer.json", ("vocab.json", "merges.txt")
CONFIG = "tokenizer_config.json"
LARGEST_TOKENIZER_BYTES = 16 << 20  # CLIP's tokenizer.json has 3.6 MB
LARGEST_WORDS_BYTES = 4 << 20  # CLIP's vocab.json has 1 MB, its merges.txt 0.5 MB
LONGEST_PROMPT = 4096  # tokens; CLIP reads 77
LAST_WORD = SPECIAL[1]
TOKENS = ("pad_token", "bos_token", "eos_token", "unk_token")


def tokenizer_class(folder: Path, part: str) -> str:
    """The class of a tokenizer that a model in diffusers layout has whole: "CLIPTokenizer", for example.

    part: "tokenizer" or "tokenizer_2". Raises WeightsError for a class that linfusion does not know, and if a file is
    missing: without its words, the library reads every word as the end of the text, and says nothing.
    """
    path, inside = folder / INDEX, folder / part
    entry = read_json_object(path).get(part)
    name = str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] else ""
    if name not in CLASSES:
        what = f"the class of its {part} is {shown(name)}" if name else f"it names no {part}"
        raise WeightsError(f"{path}: {what}. Allowed: {', '.join(CLASSES)}")
    require_words(inside, older=name in OF_CLIP)
    if not (inside / CONFIG).is_file():
        raise WeightsError(f"{inside}: not a complete tokenizer: it lacks {CONFIG}. {_WHOLE}")
    return name


def has_words(folder: Path) -> bool:
    """Whether a folder has a tokenizer's words, or some of their files."""
    return any((folder / name).exists() for name in (ONE_FILE, OLDER_FILES[0]))


def require_words(folder: Path, *, older: bool) -> None:
    """Raises WeightsError for a folder without a tokenizer's words. older: they may be in the two older files."""
    if (folder / ONE_FILE).is_file():
        return
    absent = [name for name in OLDER_FILES if not (folder / name).is_file()] if older else [ONE_FILE]
    if absent:
        lacks = ONE_FILE if len(absent) == len(OLDER_FILES) else absent[0]
        raise WeightsError(f"{folder}: not a complete tokenizer: it lacks {lacks}. {_WHOLE}")


_WHOLE = "Take the whole folder of the model"


def check_tokenizer(folder: Path, words: int, positions: int) -> None:
    """Checks the tokenizer in a folder, where there is one, against its text encoder.

    words: that the text encoder knows, its vocab_size; positions: tokens that it reads at once. Raises WeightsError
    that names the file for another length of a prompt than 1 to `positions`, for a file that is too large or can't be
    read, for a word whose number the text encoder does not know, and for a special token that is no word.
    """
    known: Mapping[str, Any] = {}
    for name in (*reversed(OLDER_FILES), ONE_FILE):  # the one file is what a library reads where there are both
        path = folder / name
        if path.exists():
            known = _check_words(path, words, _stamp(path)) or known
    if (folder / CONFIG).exists():
        _check_config(folder / CONFIG, min(positions, LONGEST_PROMPT), known or clip_vocabulary())
    require_readable(folder)


def words_of(folder: Path) -> Mapping[str, Any]:
    """The words of a tokenizer's folder, which passed check_tokenizer(); without files of words, CLIP's."""
    path = folder / (ONE_FILE if (folder / ONE_FILE).exists() else OLDER_FILES[0])
    return _check_words(path, sys.maxsize, _stamp(path)) if path.exists() else clip_vocabulary()


def require_readable(folder: Path) -> None:
    """Raises WeightsError if the library that reads a tokenizer's words can't."""
    if (folder / ONE_FILE).exists():
        _require_readable((folder / ONE_FILE,), (_stamp(folder / ONE_FILE),))
    elif has_words(folder):
        older = tuple(folder / name for name in OLDER_FILES)
        if all(path.exists() for path in older):
            _require_readable(older, tuple(map(_stamp, older)))


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=32)
def _require_readable(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> None:
    """stamps: of the files, so that a long batch reads them once."""
    del stamps
    import tokenizers

    names = [str(path) for path in files]
    try:
        if len(names) == 1:
            tokenizers.Tokenizer.from_file(names[0])
        else:
            tokenizers.models.BPE.from_file(*names)
    except Exception as error:  # its Rust part raises Exception itself
        why = next(iter(str(error).splitlines()), "")[:150]
        raise WeightsError(f"{files[0].parent}: not a complete tokenizer ({why})") from error


def _check_config(path: Path, positions: int, known: Mapping[str, Any]) -> None:
    """known: the tokenizer's words and their numbers."""
    config = read_json_object(path)
    length = config.get("model_max_length")
    if not isinstance(length, int) or isinstance(length, bool) or not 2 <= length <= positions:
        raise WeightsError(
            f"{path}: its model_max_length is {shown(length)}. Allowed: a whole number from 2 to {positions}, "
            "the tokens that its text encoder reads"
        )
    for name in TOKENS:
        token = config.get(name, LAST_WORD)
        text = token.get("content") if isinstance(token, dict) else token
        if token is None and name == "unk_token":  # every byte is a word of CLIP's
            continue
        if not isinstance(text, str):
            raise WeightsError(f"{path}: its {name} is {shown(token)}. Allowed: a text")
        if text not in known:
            raise WeightsError(f"{path}: its {name} is {shown(text)}, which is no word of the tokenizer")


@lru_cache(maxsize=32)
def _check_words(path: Path, words: int, stamp: tuple[int, int]) -> Mapping[str, Any]:
    """The words of a file and their numbers; none of merges.txt. stamp: so that a long batch reads it once."""
    del stamp
    if path.name == "merges.txt":
        _read_merges(path)
        return {}
    limit = LARGEST_TOKENIZER_BYTES if path.name == ONE_FILE else LARGEST_WORDS_BYTES
    try:
        found = read_json(path, limit)
    except (OSError, JsonError) as error:
        raise WeightsError(f"{path}: can't be used ({shown(str(error), 150)})") from error
    vocabulary = _vocabulary(path, found) if path.name == ONE_FILE else found
    _check_numbers(path, vocabulary, words)
    return vocabulary


def _vocabulary(path: Path, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The words of a tokenizer.json and their numbers, with the tokens that were added to them."""
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise WeightsError(f"{path}: it is not a tokenizer: a model with a vocab, and added_tokens are required")
    if not all(isinstance(token, dict) and isinstance(token.get("content"), str) for token in added):
        raise WeightsError(f"{path}: its added_tokens are not tokens")
    if model.get("type", "BPE") != "BPE" or not model.get("merges"):
        raise WeightsError(f"{path}: it is not a tokenizer of CLIP's kind: byte pairs (BPE) with merges are required")
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
