"""x0 and the prediction follow from each other, for each kind and each scale of noisy latents."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linfusion_cli.engine.sampling.clean_prediction import KINDS, CleanPrediction

LEVELS = st.tuples(st.floats(0.05, 1), st.floats(0.01, 14))


def predicted(kind: str, clean: Tensor, noise: Tensor, at: CleanPrediction) -> Tensor:
    """What a perfect UNet predicts, from the definitions."""
    size = math.hypot(at.signal, at.noise)
    a, s = at.signal / size, at.noise / size
    return {"epsilon": noise, "v_prediction": a * noise - s * clean, "sample": clean}[kind]


@pytest.mark.parametrize("kind", KINDS)
@given(levels=LEVELS)
@settings(max_examples=25, deadline=None)
def test_a_perfect_prediction_gives_the_clean_latents(kind: str, levels: tuple[float, float]) -> None:
    clean, noise = torch.randn(2, 1, 4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    at = CleanPrediction(kind, *levels)
    noisy = at.signal * clean + at.noise * noise
    assert torch.allclose(at.clean(predicted(kind, clean, noise, at), noisy), clean, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(levels=LEVELS)
@settings(max_examples=25, deadline=None)
def test_a_moved_prediction_moves_the_clean_latents_by_as_much(kind: str, levels: tuple[float, float]) -> None:
    prediction, noisy, change = torch.randn(3, 1, 4, 5, 3, dtype=torch.float64)
    at = CleanPrediction(kind, *levels)
    moved = at.clean(at.moved(prediction, change), noisy)
    assert torch.allclose(moved, at.clean(prediction, noisy) + change, atol=1e-8)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r'"flow" is unknown. Allowed: epsilon, v_prediction, sample'):
        CleanPrediction("flow", 1.0, 1.0)
