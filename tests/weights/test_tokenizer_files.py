"""Tokenizers of strangers: impossible lengths, numbers and sizes are named before a library reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights import tokenizer_files
from linfusion_cli.weights.tokenizer_files import check_tokenizer, has_words, require_words, tokenizer_class, words_of

END = "<|endoftext|>"
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
CONFIG = {"model_max_length": 77, "pad_token": "a", "bos_token": {"content": "<s>"}, "unk_token": None}
MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
WORDS = {"model": MODEL, "added_tokens": [{"content": "<s>", "id": 3} | PLAIN, {"content": END, "id": 4} | PLAIN]}


def check(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        path = folder / {"config": "tokenizer_config.json", "words": "tokenizer.json", "vocab": "vocab.json"}.get(
            name, "merges.txt"
        )
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    check_tokenizer(folder, words=5, positions=77)


def test_a_sound_tokenizer_and_an_empty_folder_are_taken(tmp_path: Path) -> None:
    check(tmp_path)
    check(tmp_path, config=CONFIG, words=WORDS, vocab=MODEL["vocab"], merges="#version: 0.2\na b\n")


@pytest.mark.parametrize("length", [None, True, -1, 0, 1, 78, 2**31, 10**18, 77.0, "77"])
def test_a_prompt_of_another_length_is_refused(tmp_path: Path, length: object) -> None:
    with pytest.raises(WeightsError, match=r"model_max_length.*2 to 77"):
        check(tmp_path, config={**CONFIG, "model_max_length": length})


@pytest.mark.parametrize(
    "files",
    [
        {"config": {**CONFIG, "pad_token": 5}},
        {"words": {}},
        {"words": WORDS, "config": {**CONFIG, "pad_token": "c"}},
        {"words": WORDS, "config": {**CONFIG, "eos_token": None}},
        {"words": {**WORDS, "model": MODEL | {"merges": []}}},
        {"words": {**WORDS, "model": MODEL | {"type": "Unigram"}}},
        {"words": {**WORDS, "model": MODEL | {"merges": [["a", "c"]]}}},
        {"words": {**WORDS, "normalizer": {"type": "Strange"}}},
        {"vocab": MODEL["vocab"], "merges": "a c\n"},
        {"words": {**WORDS, "added_tokens": [5]}},
        {"words": {**WORDS, "model": MODEL | {"vocab": {"a": 5}}}},
        {"words": {**WORDS, "added_tokens": [{"content": "x", "id": 10**9}]}},
        {"words": "[" * 200_000},
        {"vocab": {"a": -1}},
        {"vocab": {"a": "b"}},
        {"merges": "a b c\n"},
        {"words": " " * (17 << 20)},
        {"vocab": " " * (5 << 20)},
        {"merges": "a b\n" * (2 << 20)},
    ],
)
def test_an_odd_file_is_named(tmp_path: Path, files: dict[str, Any]) -> None:
    tokenizer_files._check_words.cache_clear()
    with pytest.raises(WeightsError, match=str(tmp_path)) as caught:
        check(tmp_path, **files)
    assert len(str(caught.value).replace(str(tmp_path), "")) <= 400


def test_the_words_of_a_folder_and_those_of_clip(tmp_path: Path) -> None:
    assert len(words_of(tmp_path)) == 49408
    check(tmp_path, vocab=MODEL["vocab"], merges="a b\n")
    assert words_of(tmp_path) == MODEL["vocab"]
    check(tmp_path, words=WORDS)
    assert words_of(tmp_path) == {**MODEL["vocab"], "<s>": 3, END: 4}


def test_a_tokenizer_is_whole_with_its_words_and_its_config(tmp_path: Path) -> None:
    """CLIP's own classes also read the two older files."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    assert not has_words(folder)
    for name in ("CLIPTokenizer", "PreTrainedTokenizerFast"):
        (tmp_path / "model_index.json").write_text(json.dumps({"tokenizer": ["transformers", name]}))
        with pytest.raises(WeightsError, match=r"it lacks tokenizer\.json"):
            tokenizer_class(tmp_path, "tokenizer")
    (folder / "vocab.json").write_text("{}")
    assert has_words(folder)
    with pytest.raises(WeightsError, match=r"it lacks merges\.txt"):
        require_words(folder, older=True)
    (folder / "merges.txt").write_text("")
    require_words(folder, older=True)
    with pytest.raises(WeightsError, match=r"it lacks tokenizer\.json"):
        tokenizer_class(tmp_path, "tokenizer")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"it lacks tokenizer_config\.json"):
        tokenizer_class(tmp_path, "tokenizer")
    (folder / "tokenizer_config.json").write_text("{}")
    assert tokenizer_class(tmp_path, "tokenizer") == "PreTrainedTokenizerFast"
