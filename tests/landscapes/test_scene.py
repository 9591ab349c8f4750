"""Captions tell what a scene holds, and only likely things meet."""

import random

import pytest
from landscape_scenes import scenes

from linfusion_cli.landscapes.scene import caption
from linfusion_cli.models.landscape_words import LAKE, MOON, STARS, SUN, TERRAINS, TIMES


@pytest.mark.parametrize("seed", range(5))
def test_captions_tell_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    for scene in scenes(200, seed):
        text = caption(scene, rng)
        assert any(word in text for word in TIMES[scene.time])
        assert any(word in text for word in TERRAINS[scene.terrain])
        for present, words in (
            (scene.body == "sun", SUN),
            (scene.body == "moon", MOON),
            (scene.lake, LAKE),
            (scene.stars, STARS),
        ):
            said = any(phrase == word for phrase in text.split(", ") for word in words)
            assert present or not said


def test_only_likely_things_meet() -> None:
    for scene in scenes(500):
        assert not (scene.body == "sun" and scene.time in ("night", "dusk"))
        assert not (scene.lake and scene.terrain == "islands")
        assert not (scene.stars and scene.time != "night")
