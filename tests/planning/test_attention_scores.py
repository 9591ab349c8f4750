"""Where torch's attention keeps its scores: on devices without a fused kernel for the number format or the heads."""

from dataclasses import replace

import pytest
from made_up import job, machine

from linfusion_cli.geometry import Size
from linfusion_cli.planning.attention_scores import MOST_SCORES, SCORE_BYTES, keeps_scores, score_bytes
from linfusion_cli.planning.memory_budget import StoreBudget
from linfusion_cli.planning.model_shapes import family_architecture
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.unet_cost import unet_cost

SD15 = family_architecture("sd15").unet


@pytest.mark.parametrize(
    ("device", "fused", "dtype", "heads", "kept"),
    [
        ("cuda:0", ("float16", "float32"), "float16", 8, False),
        ("cuda:0", ("float16",), "float32", 8, True),
        ("cuda:0", (), "float16", 8, True),
        ("cuda:0", ("float16", "float32"), "float16", 16, True),  # heads of 20, of which no kernel takes every one
        ("mps", (), "float16", 8, True),
        ("cpu", (), "float32", 8, False),
    ],
)
def test_who_keeps_scores(device: str, fused: tuple[str, ...], dtype: str, heads: int, kept: bool) -> None:
    made = replace(machine(device, 24), fused_attention=fused)
    assert keeps_scores(made, replace(SD15, heads=(heads,) * 4), dtype) == kept


def test_scores_are_limited_and_their_copies_are_not() -> None:
    few, many = score_bytes(1000, 77, 320, 8), score_bytes(10**6, 10**6, 320, 8)
    assert few == SCORE_BYTES * 8 * 1000 * 77 + 12 * 320 * 1077
    assert many == SCORE_BYTES * MOST_SCORES + 12 * 320 * 2 * 10**6


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("rows", [0, 32])
def test_a_pass_counts_them(rows: int, linear: bool) -> None:
    def band_bytes(*, scores: bool) -> float:
        latent, budget = Size(128, 128), StoreBudget.unlimited()
        return 2 * unet_cost(SD15, latent, rows, 1, budget, 2, linear=linear, scores=scores).band_values

    queries, keys = 128 * (rows + 2 if rows else 128), 77 if linear else 128 * 128
    more = score_bytes(queries, keys, 320, 8)
    assert band_bytes(scores=True) >= band_bytes(scores=False)
    assert band_bytes(scores=True) >= more


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", [6, 16])
def test_a_plan_for_a_card_without_fused_kernels_fits_and_limits_them(gigabytes: int) -> None:
    """By torch itself the first stage of this image would have 25 GB of scores."""
    fused = machine("cuda:0", gigabytes, ram_gigabytes=64)
    plain = replace(fused, fused_attention=())
    asked = job("1024x1024", "sd15-4k", attention="softmax")
    made, usual = (make_plan(asked, card) for card in (plain, fused))
    assert (made.scores_limited, usual.scores_limited) == (True, False)
    assert made.peak_bytes <= made.budget_bytes
