"""Words that the built-in model can't draw are named; the words that it was taught, and function words, are not."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.landscapes import scene as scenes
from linfusion_cli.models import builtin_folder
from linfusion_cli.models.landscape_words import PHRASES, vocabulary
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.unknown_words import (
    FUNCTION_WORDS,
    nearest_word,
    reads_landscape_words,
    unknown_words,
    unknown_words_notes,
    words_of,
)


def job(prompt: str, **values: object) -> Job:
    return resolve(Request(prompt=prompt, seed=1, **values))  # type: ignore[arg-type]


WEIGHTS = JobWeights.of(job("a lake"))


def notes(prompt: str, **values: object) -> list[str]:
    asked = job(prompt, **values)
    return [told(note) for note in unknown_words_notes(asked, WEIGHTS)]


def test_unknown_words_are_named_with_what_draws_them() -> None:
    (note,) = notes("a cat under purpel mountains")
    assert '"cat"' in note
    assert '"purpel" (nearest: purple)' in note
    assert "--preset sd15-4k or sd21-4k or sdxl-4k" in note
    assert "mountains" not in note
    assert "knows no word" not in note


def test_a_prompt_without_any_known_word_is_told_apart() -> None:
    (note,) = notes("a portrait of a woman")
    assert "knows no word of the prompt" in note


def test_the_negative_prompt_has_its_own_note() -> None:
    (note,) = notes("a lake at dawn", negative_prompt="blurry, fog, text")
    assert note == 'the built-in model ignores "blurry" and "text" in the negative prompt'


def test_a_long_list_is_counted() -> None:
    (note,) = notes("cat dog cow pig hen rat bee fly ant")
    assert '"rat" and 3 other words.' in note
    assert len(note) < 400


def test_weights_are_no_words() -> None:
    assert notes("(purple:1.3) mountains, [fog]", prompt_weights=True) == []
    assert notes("(purple:1.3) mountains BREAK fog <lora:x:1>") == []


@pytest.mark.parametrize("seed", range(20))
def test_a_caption_of_the_training_data_has_no_note(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(rng, "random", lambda: 0.5)  # 3 in 100 get a word of random letters on purpose
    for _ in range(50):
        assert list(unknown_words(scenes.caption(scenes.sample_scene(rng), rng))) == []


def test_no_phrase_of_the_training_data_has_a_note() -> None:
    for phrase in (phrase for phrases in PHRASES for phrase in phrases):
        assert list(unknown_words(phrase)) == []
        assert list(unknown_words(phrase.upper() + "!")) == []


@given(st.sampled_from(sorted(FUNCTION_WORDS)), st.sampled_from(sorted(set(vocabulary()) - {",", "."})))
def test_function_words_are_not_named(function_word: str, known: str) -> None:
    assert list(unknown_words(f"{function_word.title()} {known}, {known}'s")) == []


@given(st.text(st.characters(categories=["L", "N", "So"]), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_any_other_word_is_named(word: str, rng: random.Random) -> None:
    (read,) = words_of(word)
    assume(read not in {*vocabulary(), *FUNCTION_WORDS})
    prompt = f"{rng.choice(['', 'A Lake, ', '(', 'fog-'])}{word}{rng.choice(['', '.', ') at dawn', ', ' + word])}"
    assert list(unknown_words(prompt)) == [read]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("purpel", "purple"),
        ("hill", "hills"),
        ("moons", "moon"),
        ("forrest", "forest"),
        ("sunrize", "sunrise"),
        *((word, "") for word in ("cat", "frog", "light", "rivers", "blurry", "car", "house", "woman", "without")),
    ],
)
def test_only_a_likely_word_is_offered(word: str, near: str) -> None:
    assert nearest_word(word) == near


def test_a_word_of_a_users_own_is_known() -> None:
    assert list(unknown_words("a gonzo lake", {"gonzo"})) == []


def test_other_models_have_no_note(tmp_path: Path) -> None:
    asked = job("a cat")
    builtin = builtin_folder("builtin:landscape")
    assert builtin
    same = tmp_path / "same"
    shutil.copytree(builtin / "tokenizer", same / "tokenizer")
    like = replace(WEIGHTS, model=replace(WEIGHTS.model, path=same))
    assert reads_landscape_words(like)
    (same / "tokenizer" / "tokenizer.json").write_text("{}")
    assert not reads_landscape_words(like)
    for path in (None, tmp_path):
        other = replace(WEIGHTS, model=replace(WEIGHTS.model, path=path))
        assert unknown_words_notes(asked, other) == ()
