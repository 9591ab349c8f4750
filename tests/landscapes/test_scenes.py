"""Scenes are resolution-free, their captions true, and every word of them one token."""

import random

import pytest
import torch

from linfusion_cli.landscapes.render import View, random_view, render
from linfusion_cli.landscapes.scene import LAKE, MOON, STARS, SUN, TERRAINS, TIMES, caption, sample_scene, vocabulary
from linfusion_cli.landscapes.tokenizer import build_tokenizer


def scenes(count: int, seed: int = 0, aspect: float = 1.0):
    rng = random.Random(seed)
    return [sample_scene(rng, aspect) for _ in range(count)]


def test_pictures_are_in_range_and_differ() -> None:
    batch = render(scenes(12), 48, 64)
    assert batch.shape == (12, 3, 48, 64)
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert all((batch[i] - batch[j]).abs().mean() > 0.005 for i in range(12) for j in range(i))


def test_a_scene_does_not_depend_on_its_batch() -> None:
    chosen = scenes(8)
    together = render(chosen, 32, 32)
    for index, scene in enumerate(chosen):
        assert torch.allclose(render([scene], 32, 32)[0], together[index], atol=1e-6)


def test_sizes_show_the_same_scene() -> None:
    chosen = [scene for scene in scenes(20, seed=5) if not scene.stars]
    large = render(chosen, 256, 256)
    small = render(chosen, 64, 64)
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (shrunk - small).abs().mean() < 0.01


def test_a_window_is_a_part_of_the_whole() -> None:
    chosen = [scene for scene in scenes(20, seed=6) if not scene.stars]
    whole = render(chosen, 256, 256)
    window = render(chosen, 64, 64, [View(0.5, 0.25, 0.25)] * len(chosen))
    assert (whole[:, :, 64:128, 128:192] - window).abs().mean() < 0.002


def test_closer_views_show_finer_ridges() -> None:
    mountain = next(scene for scene in scenes(300) if scene.terrain == "mountains" and not scene.snow and not scene.lake and scene.time == "noon")
    top = render([mountain], 512, 512)[0, 0].diff(dim=0).abs().max(dim=0).indices.float() / 512
    row = float(top[256])
    near = render([mountain], 512, 512, [View(0.5, max(0.0, row - 1 / 32), 1 / 16)])
    enlarged = torch.nn.functional.interpolate(render([mountain], 512, 512), scale_factor=16.0, mode="bilinear")
    left, up = 4096, round(max(0.0, row - 1 / 32) * 8192)
    crop = enlarged[:, :, up : up + 512, left : left + 512]
    assert near.diff(dim=3).abs().mean() > 1.2 * crop.diff(dim=3).abs().mean()


def test_windows_stay_inside_the_scene() -> None:
    rng = random.Random(1)
    for scene in scenes(200, aspect=1.8):
        view = random_view(scene, rng)
        assert 1 / 16 <= view.extent <= 1
        assert view.left >= 0
        assert view.left + view.extent <= scene.aspect + 1e-6
        assert 0 <= view.top <= 1 - view.extent + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_captions_tell_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    for scene in scenes(200, seed):
        text = caption(scene, rng)
        assert any(word in text for word in TIMES[scene.time])
        assert any(word in text for word in TERRAINS[scene.terrain])
        for present, words in ((scene.body == "sun", SUN), (scene.body == "moon", MOON), (scene.lake, LAKE), (scene.stars, STARS)):
            said = any(phrase == word for phrase in text.split(", ") for word in words)
            assert present or not said


def test_only_likely_things_meet() -> None:
    for scene in scenes(500):
        assert not (scene.body == "sun" and scene.time in ("night", "dusk"))
        assert not (scene.lake and scene.terrain == "islands")
        assert not (scene.stars and scene.time != "night")


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = build_tokenizer()
    words = [word for word in vocabulary() if word.isalpha()]
    assert all(len(tokenizer(word).input_ids) == 3 for word in words)
    assert len(tokenizer("zyxwv ☃").input_ids) > 3  # unknown words fall into pieces
    assert len(set(map(tuple, (tokenizer(word).input_ids for word in words)))) == len(words)
