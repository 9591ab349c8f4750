"""Structure guidance moves the low band of x0 towards the reference, by the paper's gamma, and nothing else."""

import pytest
import torch

from linfusion_cli.engine.sampling.clean_prediction import KINDS, CleanPrediction
from linfusion_cli.engine.sampling.frequency_bands import low_band
from linfusion_cli.engine.sampling.structure_guidance import StructureGuidance, noise_share


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_it_equals_the_papers_equation(kind: str, weight: float) -> None:
    reference, prediction, noisy = torch.randn(3, 1, 4, 16, 24, dtype=torch.float64)
    first, at = noise_share(0.6, 0.8), CleanPrediction(kind, 0.8, 0.6)
    guided = StructureGuidance(reference, weight, 1 / 4, first)(prediction, noisy, at)
    clean, gamma = at.clean(prediction, noisy), weight * 0.6**2 / 0.8**2
    expected = clean + gamma * (low_band(reference, 1 / 4) - low_band(clean, 1 / 4))
    assert torch.allclose(at.clean(guided, noisy), expected, atol=1e-10)


def test_a_clean_image_like_the_reference_stays() -> None:
    reference, noise = torch.randn(2, 1, 4, 16, 24, dtype=torch.float64)
    at = CleanPrediction("epsilon", 0.6, 0.8)
    guided = StructureGuidance(reference, 1.0, 1 / 8, noise_share(0.6, 0.8))(noise, 0.6 * reference + 0.8 * noise, at)
    assert torch.allclose(guided, noise, atol=1e-10)


def test_the_share_of_noise_does_not_depend_on_the_scale_of_latents() -> None:
    assert noise_share(0.6, 0.8) == pytest.approx(0.64)
    assert noise_share(1.0, 0.8 / 0.6) == pytest.approx(0.64)
