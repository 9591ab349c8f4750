"""Decays have their papers' equations, first values and numbers of parameters."""

import math

import torch
from torch import nn

from linfusion_cli.distill.decays import GlaDecay, Rwkv6Decay, SsdDecay

BUILT_IN = ((64, 4),) * 3 + ((96, 4),) * 3 + ((144, 4),)  # channels and heads of the built-in model's self-attentions


def parameters(kind: type[nn.Module]) -> int:
    return sum(p.numel() for dim, heads in BUILT_IN for p in kind(dim, heads).parameters())


def test_parameters_are_few() -> None:
    assert [parameters(kind) for kind in (SsdDecay, GlaDecay, Rwkv6Decay)] == [2580, 20592, 80496 + 624]


def test_mamba2_starts_with_small_steps() -> None:
    torch.manual_seed(0)
    decay = SsdDecay(16, 8)
    assert decay(torch.zeros(1, 3, 16)).shape == (1, 8, 3, 1)
    steps = nn.functional.softplus(decay.step_bias).detach()
    assert 1e-3 <= float(steps.min()) <= float(steps.max()) <= 0.1
    assert torch.allclose(decay(torch.zeros(1, 1, 16))[0, :, 0, 0], -steps * decay.log_rate.exp(), atol=1e-6)


def test_gla_forgets_half_in_sixteen_tokens_at_the_start() -> None:
    decay = GlaDecay(16, 4)(torch.zeros(1, 2, 16))
    assert decay.shape == (1, 4, 2, 4)
    assert torch.allclose(decay, torch.tensor(-math.log(2) / 16))


def test_rwkv6_forgets_faster_in_later_channels_and_earlier_layers() -> None:
    first, last = (Rwkv6Decay(16, 1, depth)(torch.zeros(1, 1, 16))[0, 0, 0] for depth in (0.0, 1.0))
    assert torch.allclose(first[0], -torch.tensor(-6.0).exp())
    assert torch.allclose(first[-1], -torch.tensor(-1.0).exp())
    assert (first.diff() < 0).all()
    assert (first <= last + 1e-6).all()


def test_every_decay_is_below_one_whatever_the_input() -> None:
    torch.manual_seed(0)
    for kind in (SsdDecay, GlaDecay, Rwkv6Decay):
        assert (kind(16, 4)(10 * torch.randn(2, 9, 16)) <= 0).all()
