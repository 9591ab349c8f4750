"""Tokenizers of strangers: impossible lengths, numbers and sizes are named before a library reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights import tokenizer_files
from linfusion_cli.weights.tokenizer_files import check_tokenizer

CONFIG = {"model_max_length": 77, "pad_token": "!", "bos_token": {"content": "<s>"}}
WORDS = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"content": "<s>", "id": 2}]}


def check(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        path = folder / {"config": "tokenizer_config.json", "words": "tokenizer.json", "vocab": "vocab.json"}.get(
            name, "merges.txt"
        )
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    check_tokenizer(folder, words=3, positions=77)


def test_a_sound_tokenizer_and_an_empty_folder_are_taken(tmp_path: Path) -> None:
    check(tmp_path)
    check(tmp_path, config=CONFIG, words=WORDS, vocab={"a": 0, "b": 1}, merges="#version: 0.2\na b\n")


@pytest.mark.parametrize("length", [None, True, -1, 0, 1, 78, 2**31, 10**18, 77.0, "77"])
def test_a_prompt_of_another_length_is_refused(tmp_path: Path, length: object) -> None:
    with pytest.raises(WeightsError, match=r"model_max_length.*2 to 77"):
        check(tmp_path, config={**CONFIG, "model_max_length": length})


@pytest.mark.parametrize(
    "files",
    [
        {"config": {**CONFIG, "pad_token": 5}},
        {"words": {}},
        {"words": {**WORDS, "added_tokens": [5]}},
        {"words": {**WORDS, "model": {"vocab": {"a": 3}}}},
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
