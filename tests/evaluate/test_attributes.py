"""Prompts and what they fix."""

from linfusion_cli.evaluate.attributes import ATTRIBUTES, fixed_prompts, read_prompt, truth_of
from linfusion_cli.landscapes.tokenizer import MAX_TOKENS, build_tokenizer


def test_fixed_prompts_are_fixed_and_grow_at_the_end() -> None:
    assert fixed_prompts(8, 1) == fixed_prompts(20, 1)[:8]
    assert fixed_prompts(8, 1) != fixed_prompts(8, 2)


def test_every_prompt_says_all_of_its_scene() -> None:
    for asked in fixed_prompts(300, 0):
        assert asked.scene is not None
        truth = truth_of(asked.scene)
        assert asked.truth == truth
        said = read_prompt(asked.prompt).truth
        assert all(truth[name] == value for name, value in said.items())
        named = {name for name, value in truth.items() if value not in ("no", "none")}
        assert said.keys() == named
        assert truth.keys() == ATTRIBUTES.keys()


def test_prompts_fit_the_model() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(asked.prompt).input_ids) <= MAX_TOKENS for asked in fixed_prompts(300, 0))


def test_prompts_of_ones_own() -> None:
    assert read_prompt("Red hills at dawn, misty").truth == {
        "time": "dawn",
        "terrain": "hills",
        "tint": "red",
        "fog": "yes",
    }
    assert read_prompt("a portrait of a cat").truth == {}
    assert read_prompt("sunset or dawn over sand dunes").truth == {"terrain": "dunes"}, "two times say nothing"
