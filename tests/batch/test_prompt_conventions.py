"""Quotes, "### negative" and infotext around a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.prompt_conventions import own_names, plain_values, unquoted


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('"a castle"', "a castle"),
        (" 'a castle, at dawn' ", "a castle, at dawn"),
        ("\u201ca castle\u201d", "a castle"),
        ('"a" and "b"', '"a" and "b"'),
        ('a "castle"', 'a "castle"'),
        ("'tis the lads' day", "'tis the lads' day"),
        ('"', '"'),
        ('""', ""),
    ],
)
def test_quotes_around_the_whole_are_removed(text: str, bare: str) -> None:
    assert unquoted(text) == bare


@pytest.mark.parametrize(
    ("values", "plain", "unused"),
    [
        ({"prompt": "a castle ### trees"}, {"prompt": "a castle", "negative_prompt": "trees"}, []),
        ({"Prompt": '"a" ### "b"'}, {"Prompt": "a", "negative_prompt": "b"}, []),
        ({"prompt": "a ### b", "negative": "c"}, {"prompt": "a", "negative": "c"}, ["negative prompt: b"]),
        ({"prompt": "a###b #1"}, {"prompt": "a###b #1"}, []),
        ({"prompt": ["a ### b"]}, {"prompt": ["a ### b"]}, []),
        ({"prompt": "a Negative prompt: b"}, {"prompt": "a", "negative_prompt": "b"}, []),
        (
            {
                "prompt": "a\nNegative prompt: b, c\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, "
                "CFG scale: 7, Eta DDIM: 0.5, "
                'Seed: 5, Size: 512x640, Clip skip: 2, Lora hashes: "x: 1, y: 2", Version: v1.9',
                "seed": 6,
            },
            {
                "prompt": "a",
                "negative_prompt": "b, c",
                "steps": "20",
                "scheduler": "DPM++ 2M",
                "guidance": "7",
                "eta": "0.5",
                "sigma_schedule": "Karras",
                "seed": 6,
                "size": "512x640",
                "clip_skip": 2,
            },
            ["Lora hashes: x: 1, y: 2", "Version: v1.9"],
        ),
        ({"prompt": "the Steps: a tale"}, {"prompt": "the Steps: a tale"}, []),
        ({"seed": 3}, {"seed": 3}, []),
    ],
)
def test_conventions(values: dict[str, object], plain: dict[str, object], unused: list[str]) -> None:
    assert plain_values(values) == (plain, unused)


@given(st.text(max_size=40).filter(lambda text: not set("\"'#\u201c") & set(text) and "Steps" not in text))
def test_other_prompts_stay_as_they_are(prompt: str) -> None:
    if "Negative prompt:" not in prompt:
        assert plain_values({"prompt": prompt}) == ({"prompt": prompt}, [])


@pytest.mark.parametrize("name", ["positive", "Positive Prompt", "text"])
def test_other_names_of_the_prompt_are_read_where_there_is_no_prompt(name: str) -> None:
    assert own_names({name: "a lake", "seed": 1}) == ({"prompt": "a lake", "seed": 1}, [])
    both = {"prompt": "a hill", name: "a lake"}
    assert own_names(both) == (both, [])


def test_the_scheduler_beside_a_sampler_is_the_sigma_schedule() -> None:
    assert own_names({"sampler_name": "dpmpp_2m", "scheduler": "karras"})[0] == {
        "sampler_name": "dpmpp_2m",
        "sigma_schedule": "karras",
    }
    assert own_names({"scheduler": "euler"}) == ({"scheduler": "euler"}, [])


@pytest.mark.parametrize(
    ("values", "unused"),
    [
        ({"do_not_save_samples": "true"}, ["do_not_save_samples"]),
        ({"restore_faces": "False", "tiling": False}, ["restore_faces", "tiling"]),
        ({"restore_faces": "true", "subseed": "5"}, []),
        ({"denoise": 1.0}, ["denoise"]),
        ({"denoise": 0.5}, []),
        ({"denoise": 1.0, "init_image": "a.png"}, []),
    ],
)
def test_only_keys_without_effect_are_left_out(values: dict[str, object], unused: list[str]) -> None:
    found, left_out = own_names({"prompt": "x", **values})
    assert left_out == unused
    assert found == {"prompt": "x", **{key: value for key, value in values.items() if key not in unused}}
