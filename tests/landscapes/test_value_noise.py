"""Octaves at once are octaves one by one."""

import torch

from linfusion_cli.landscapes.value_noise import fractal, value_noise


def test_many_octaves_at_once_are_octaves_one_by_one() -> None:
    x, pixel = torch.rand(3, 1, 1, 50), torch.tensor([0.001, 0.01, 0.2]).view(3, 1, 1, 1)
    seed = torch.tensor([1, 2, 3]).view(3, 1, 1, 1)
    slow = torch.full_like(x, 0.5)
    for octave in range(9):
        wavelength = 1 / (2.0 * 2**octave)
        wave = value_noise(x / wavelength + 17.31 * octave, seed + 101 * octave, smooth=octave < 3)
        slow += 0.5**octave / 1.75 * ((wavelength / pixel) / 2 - 1).clamp(0, 1) * (wave - 0.5)
    assert torch.allclose(fractal(x, seed, 2.0, 0.5, 9, pixel), slow, atol=1e-5)
