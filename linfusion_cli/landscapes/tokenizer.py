"""A CLIP tokenizer whose vocabulary is the captions' own words."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from linfusion_cli.models.landscape_words import vocabulary

MAX_TOKENS = 48


def build_tokenizer() -> Any:
    """Byte-level BPE, trained until each known word is one token. An unknown word becomes several tokens, no error."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, show_progress=False, initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    bpe.train_from_iterator(vocabulary(), trainer)
    learned = json.loads(bpe.to_str())["model"]["merges"]
    merges = [tuple(pair) for pair in learned]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    names = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: index for index, name in enumerate(names)}, merges=merges, model_max_length=MAX_TOKENS
    )
