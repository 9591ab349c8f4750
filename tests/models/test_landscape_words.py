"""The tokenizer that ships with the built-in model knows every word of the tables."""

from __future__ import annotations

import json

from linfusion_cli.models import builtin_folder
from linfusion_cli.models.landscape_words import PHRASES, vocabulary


def test_the_built_in_tokenizer_has_a_token_for_every_word() -> None:
    folder = builtin_folder("builtin:landscape")
    assert folder
    tokens = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    assert {word for word in vocabulary() if word.isalpha() and f"{word}</w>" not in tokens} == set()


def test_the_vocabulary_holds_every_phrase_once() -> None:
    words = vocabulary()
    assert len(set(words)) == len(words)
    assert {word for phrases in PHRASES for phrase in phrases for word in phrase.split()} <= set(words)
