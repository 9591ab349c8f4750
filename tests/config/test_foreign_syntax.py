"""What other tools' prompts hold is noted in both texts; ordinary prompts are not."""

from __future__ import annotations

import pytest

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.foreign_syntax import SIGNS, foreign_syntax_notes
from linfusion_cli.config.midjourney import PARAMETERS

EXAMPLES = {
    "<lora:armour:0.8>": "--lora",
    "<lyco:armour:0.8>": "--lora",
    "a <lora:armour": "ends with >",
    "<hypernet:x:1>": "hypernetworks",
    "embedding:easynegative": "--textual-inversion",
    "a BREAK b": "starts a chunk",
    "a,BREAK,b": "leave it out",
    "a AND b": "not composed",
    "a __animal__": "--wildcards",
    "[cat:dog:0.5]": "between steps",
    "[dog:0.5]": "between steps",
    "[cat|dog]": "alternate",
    "{cat|dog}": "each choice",
    "a {cat|dog": "ends with }",
    "a Negative prompt: b": "--negative",
    "a Steps: 20, Seed: 1": "pasted settings",
    "((cat))": "--prompt-weights",
    "a {prompt}, film grain": "write the prompt there",
    "a cat++ on (a mat)-- x": "(word:1.1)",
    "(a cat)1.3": "InvokeAI",
    "(cat:1.3)": "--prompt-weights",
    "[cat]": "--prompt-weights",
    "{{cat}}, a {dog}": "NovelAI",
    "1.5::a cat::, fog": "NovelAI",
    "a cat::2 a dog::-1": "Midjourney",
    "a {% if x %}cat{% endif %}": "templates",
    "${animal} in fog": "variables",
    "a cat.swap(dog) x": "exchanged",
    '("a cat", "a dog").blend(1, 1)': "not composed",
    '("a cat", "a dog").and()': "not composed",
    "a cat .withLora(fur,0.5)": "--lora",
    "a <wildcard:animal>": "--wildcards",
    "a <random:cat,dog>": "{a|b}",
    "a <alternate:cat,dog>": "between steps",
    "a <fromto[0.5]:cat,dog>": "between steps",
    "a <embed:easynegative>": "--textual-inversion",
    "a <segment:face> cat": "SwarmUI",
    "https://a.example/b.png a cat": "--init-image",
    "a cat --steps 30": "outside",
    "a cat --no trees": "--negative",
    "a cat \N{EM DASH}ar 16:9": "--aspect",
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_sign_is_noted_in_both_texts(text: str) -> None:
    (note,) = foreign_syntax_notes(text, "", weights=False)
    assert "in the prompt is read as words" in note
    assert EXAMPLES[text] in told(note)
    (note,) = foreign_syntax_notes("", text, weights=False)
    assert "in the negative prompt is read as words" in note
    assert EXAMPLES[text] in told(note)


def test_a_lora_in_a_negative_prompt_belongs_into_the_prompt() -> None:
    both = [told(note) for note in foreign_syntax_notes("<lora:x:1>", "<lora:x:1>", weights=False)]
    assert ["Write it in the prompt" in note for note in both] == [False, True]


def test_every_sign_has_an_example() -> None:
    assert all(any(sign.pattern.search(text) for text in EXAMPLES) for sign in SIGNS)


def test_weights_are_noted_only_where_they_are_not_read() -> None:
    (note,) = foreign_syntax_notes("", "(cat:1.3)", weights=False)
    assert "--prompt-weights" in told(note)
    assert foreign_syntax_notes("((a)) [b] (c:1.2) BREAK d", "((a)) [b] (c:1.2)", weights=True) == ()


@pytest.mark.parametrize(
    "text",
    [
        "a lake (at dawn), 3:2 format",
        "a (new-)built house, C++",
        "sand and sea",
        "BREAKFAST, breaks",
        "a_b __init",
        "x < y",
        "{a} :)",
        "5 steps",
    ],
)
def test_ordinary_prompts_have_no_note(text: str) -> None:
    assert foreign_syntax_notes(text, text, weights=False) == ()


def test_each_parameter_of_midjourney_is_told_once_in_both_texts() -> None:
    text = " ".join(f"--{name} 1" for name in PARAMETERS)
    notes = [told(note) for note in foreign_syntax_notes(f"a cat {text} {text}", text, weights=False)]
    for what in ("the prompt", "the negative prompt"):
        assert [note for note in notes if f" in {what} is read" in note] == notes[: len(PARAMETERS)]
        assert all(f'"--{name}" in {what}' in note for name, note in zip(PARAMETERS, notes, strict=False))
        notes = notes[len(PARAMETERS) :]
    assert notes == []
