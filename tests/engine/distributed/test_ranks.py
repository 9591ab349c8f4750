"""Whole images by ranks equal those of one process: stages, guidance, both joins, resumed with another number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_work import job_of, make_image, plan_of, refused
from ranks import Ranks


def largest_difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("between", ["pixel", "latent"])
def test_three_stages(ranks: Ranks, tiny_preset: Path, size: int, between: str) -> None:
    job = job_of(tiny_preset, "200x256", between)
    alone = make_image(None, job, {})[0]
    assert alone.shape == (256, 200, 3)
    made = ranks.run(size, make_image, job, {})
    assert largest_difference(made[0][0], alone) <= 1
    assert all(len(rows) == 0 for rows, _ in made[1:])


@pytest.mark.parametrize("shares", ["5:1", "1:4:2", "1:2:3:4"])
def test_unequal_shares(ranks: Ranks, tiny_preset: Path, shares: str) -> None:
    """Of all rows, and of those of each half for guidance."""
    job = job_of(tiny_preset, "136x168", "pixel")
    alone = make_image(None, job, {})[0]
    size = shares.count(":") + 1
    made = ranks.run(size, make_image, {**job, "ranks": size, "rank_shares": shares}, {})
    assert largest_difference(made[0][0], alone) <= 1


def test_two_ranks_leave_small_stages_whole(ranks: Ranks, tiny_preset: Path, tmp_path: Path) -> None:
    """With guidance in most of their steps: the second rank gets the first's prediction in the others."""
    preset = tmp_path / "guided.toml"
    preset.write_text(f'extends = "{tiny_preset}"\n[sampling]\nguidance_interval = [0.4, 1.0]\n')
    job = job_of(preset, "64x136", "pixel")
    whole = [stage for stage in plan_of(job, 2).stages if not stage.bands.unet_latent]
    assert any(0 < stage.guided_steps < stage.steps for stage in whole)
    alone = make_image(None, job, {})[0]
    assert largest_difference(ranks.run(2, make_image, job, {})[0][0], alone) <= 1


def test_an_interrupted_image_goes_on_with_another_number_of_ranks(ranks: Ranks, tiny_preset: Path) -> None:
    job = job_of(tiny_preset, "200x256", "pixel")
    alone = make_image(None, job, {})[0]
    _, kept = ranks.run(3, make_image, job, {}, 7)[0]
    assert "step" in kept
    rows, _ = ranks.run(2, make_image, job, kept)[0]
    assert largest_difference(rows, alone) <= 1
    rows, _ = make_image(None, job, kept)
    assert largest_difference(rows, alone) <= 1


def test_ranks_that_would_have_no_rows_are_refused(ranks: Ranks, tiny_preset: Path) -> None:
    """16 rows of latents are 4 of the tiny UNet's coarsest level or fewer; both predictions take as many ranks."""
    errors = ranks.run(7, refused, job_of(tiny_preset, "128x32", "pixel"), "")
    assert len(set(errors)) == 1
    assert errors[0].startswith("ranks 7: some would have no rows of 128x32 to compute. Nearest: ")
    nearest = int(errors[0].rpartition(" ")[2])
    assert ranks.run(nearest, refused, job_of(tiny_preset, "128x32", "pixel"), "")[0] == ""


def test_other_weights_are_refused_by_all(ranks: Ranks, tiny_preset: Path) -> None:
    errors = ranks.run(3, refused, job_of(tiny_preset, "64x64", "pixel"), "rank 1 changes its weights")
    assert len(set(errors)) == 1
    assert "the ranks have different weights: rank 0 has " in errors[0]
    assert ", rank 1 has " in errors[0]
