"""A row of conifers: on the ground, no higher than grown, as dense as asked, with more detail from near."""

import pytest
import torch
from landscape_scenes import frame_of, scene
from torch import Tensor

from linfusion_cli.landscapes.frame import Frame, View
from linfusion_cli.landscapes.trees import tree_row

GROUND, PITCH, TALL = 0.6, 0.1, 0.25


def row(share: float = 1.0, size: int = 200, view: View = View(), seed: int = 1) -> tuple[Tensor, Tensor]:  # noqa: B008
    frame = frame_of([scene(seed=seed)], size, view)
    cover, tier = tree_row(
        frame,
        torch.full_like(frame.x, GROUND),
        frame.seed,
        frame.column([PITCH]),
        frame.column([TALL]),
        share,
    )
    return cover[0, 0], tier[0, 0]


def test_trees_stand_on_the_ground_and_end_at_their_height() -> None:
    cover, tier = row()
    rows = ((torch.arange(200) + 0.5) / 200)[cover.amax(1) > 0]
    assert rows.max() <= GROUND + 0.05 * 1.3 * TALL + 1 / 200
    assert GROUND - 1.3 * TALL <= rows.min() < GROUND - 0.8 * TALL
    assert cover.min() >= 0
    assert cover.max() == 1
    assert tier.min() >= 0
    assert tier.max() < 1


def test_each_place_holds_one_tree() -> None:
    """Just above the ground there are only trunks: one for each pitch."""
    cover, _ = row(size=400)
    trunks = cover[int(GROUND * 400) - 3] > 0.5
    starts = int(trunks[0]) + int((trunks.long().diff() > 0).sum())
    assert abs(starts - 1 / PITCH) <= 1


@pytest.mark.parametrize(("share", "lowest", "highest"), [(0.0, 0.0, 0.0), (0.5, 0.2, 0.8), (1.0, 1.0, 1.0)])
def test_a_share_of_the_places_holds_a_tree(share: float, lowest: float, highest: float) -> None:
    full = sum(float(row(1.0, seed=seed)[0].sum()) for seed in range(5))
    assert lowest * full <= sum(float(row(share, seed=seed)[0].sum()) for seed in range(5)) <= highest * full


def test_a_tree_narrows_towards_its_tip() -> None:
    cover, _ = row(size=400)
    lower, upper = (int((GROUND - part * TALL) * 400) for part in (0.2, 0.6))
    assert cover[lower].sum() > 1.5 * cover[upper].sum()


@pytest.mark.parametrize(
    ("size", "view", "differs"), [(64, View(), False), (256, View(0.0, GROUND - 0.2, 0.1), True)], ids=["far", "near"]
)
def test_needles_show_from_near_only(monkeypatch: pytest.MonkeyPatch, size: int, view: View, differs: bool) -> None:
    cover, _ = row(size=size, view=view)
    monkeypatch.setattr(Frame, "shows", lambda self, size: torch.zeros(1))
    plain, _ = row(size=size, view=view)
    assert torch.equal(cover, plain) != differs
