"""The notes about a prompt: a token in it, words that the model ignores, and signs of other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import Message
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.prompt_notes import TOKEN, prompt_notes


def test_every_kind_of_note_in_its_order() -> None:
    job = resolve(Request(prompt=f"a cat, (lake:1.2) AND fog, hf_{'a' * 34}", seed=1, negative_prompt="((blurry))"))
    notes = [told(note) for note in prompt_notes(job, JobWeights.of(job))]
    assert notes[0] == f"the prompt {TOKEN}--store-prompt no"
    assert '"cat"' in notes[1]
    assert '"blurry"' in notes[2]
    assert '"AND" in the prompt' in notes[3]
    assert '"((blurry))" in the negative prompt' in notes[-1]


def test_a_token_in_either_text_is_told_and_no_part_of_it_is_shown() -> None:
    token = f"hf_{'Secret' * 6}"
    job = resolve(Request(prompt=f"a calm lake {token}", seed=1, negative_prompt=f"fog {token}"))
    notes = [told(note) for note in prompt_notes(job, JobWeights.of(job))]
    assert notes == [f"the prompt {TOKEN}--store-prompt no", f"the negative prompt {TOKEN}--store-prompt no"]
    job = resolve(Request(prompt=f"a calm lake {token}", seed=1, store_prompt="no"))
    assert prompt_notes(job, JobWeights.of(job)) == ()


def test_every_note_that_holds_words_of_the_prompt_says_so() -> None:
    job = resolve(Request(prompt=f"a cat, (lake:1.2) hf_{'a' * 34}", seed=1, negative_prompt="((blurry))"))
    token, *others = prompt_notes(job, JobWeights.of(job))
    assert not token.quotes_prompt
    assert len(others) >= 3
    assert all(note.quotes_prompt and Message.from_json(note.as_json()).quotes_prompt for note in others)
    assert all(Message("image 1: ", note).quotes_prompt for note in others)


def test_a_plain_prompt_has_none() -> None:
    job = resolve(Request(prompt="a calm lake at dawn", seed=1))
    assert prompt_notes(job, JobWeights.of(job)) == ()


def test_two_weights_of_a_lora_in_the_prompt_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "armour.safetensors").touch()
    monkeypatch.setenv("LINFUSION_MODELS", str(tmp_path))
    job = resolve(Request(prompt="a calm lake at dawn <lora:armour:0.2:0.7>", seed=1))
    without = resolve(Request(prompt="a calm lake at dawn", seed=1))  # whose weights can be read: the LoRA is empty
    (note,) = prompt_notes(job, JobWeights.of(without))
    assert "0.7 for the UNet and 0.2 for the text encoders" in told(note)
