"""A disc counts more where it is seen, whatever part of the scene an image shows."""

import random
from dataclasses import replace

import pytest
import torch

from linfusion_cli.landscapes.disc_weights import WEIGHT, disc_in_view, disc_weights
from linfusion_cli.landscapes.frame import BODY, View
from linfusion_cli.landscapes.render import render
from linfusion_cli.landscapes.scene import sample_scene

SUN = replace(sample_scene(random.Random(3)), body="sun", fog=False, time="noon", terrain="dunes", seed=11)


@pytest.mark.parametrize("view", [View(), View(0.1, 0.05, 0.6)])
def test_a_disc_is_where_the_renderer_draws_it(view: View) -> None:
    image = render([SUN], 192, 192, [view])[0]
    near = (image - torch.tensor(BODY["sun"]).view(3, 1, 1)).abs().amax(0) < 0.02
    x, y, radius = disc_in_view(SUN, view, 192)
    rows, columns = near.nonzero().float().add(0.5).unbind(1)
    assert (float(columns.mean()), float(rows.mean())) == pytest.approx((x, y), abs=1.0)
    assert (len(rows) / torch.pi) ** 0.5 == pytest.approx(radius, rel=0.05)


def test_the_rim_counts_more_than_the_middle_of_a_large_disc_and_far_away() -> None:
    weights = disc_weights(torch.tensor([[40.0, 30.0, 20.0]]), 64, 96)[0, 0]
    assert weights.shape == (64, 96)
    assert float(weights.mean()) == pytest.approx(1)
    assert weights[30, 60] / weights[0, 95] == pytest.approx(WEIGHT)
    assert weights[30, 40] == weights[0, 95]


def test_a_small_disc_counts_whole() -> None:
    weights = disc_weights(torch.tensor([[8.0, 8.0, 1.5]]), 16, 16)[0, 0]
    assert weights.argmax() == weights[7, 7:].argmax() + 7 * 16 + 7
    assert weights[7, 7] / weights[0, 0] == pytest.approx(WEIGHT)


def test_without_a_disc_all_count_alike() -> None:
    scene = replace(SUN, body="none")
    assert disc_in_view(scene, View(), 128) == (0.0, 0.0, 0.0)
    discs = torch.tensor([[0.0, 0.0, 0.0], [500.0, 500.0, 9.0]])  # none, and one that lies outside
    assert torch.equal(disc_weights(discs, 16, 24), torch.ones(2, 1, 16, 24))
