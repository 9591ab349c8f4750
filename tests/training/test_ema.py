"""The moving average follows the weights: at once in the beginning, slowly later, and never shares their memory."""

import pytest
import torch
from torch import nn

from linfusion_cli.training.ema import MovingAverage


class Counting(nn.Module):
    """One weight, a buffer that counts, and a buffer in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("small", torch.zeros(2, dtype=torch.float16))


def after_steps(decay: float, steps: int) -> MovingAverage:
    """The average of a model whose weights are 1 from its first step on."""
    model = Counting()
    average = MovingAverage(model, decay)
    with torch.no_grad():
        model.weight.fill_(1)
    for step in range(steps):
        model.count += 1
        average.update(model, step)
    return average


def test_it_begins_as_the_model_and_keeps_a_copy() -> None:
    model = nn.Linear(3, 2)
    average = MovingAverage(model, 0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.weight.add_(1)
    assert set(average.weights) == set(before)
    assert all(torch.equal(average.weights[name], before[name]) for name in before)


def test_without_decay_it_is_the_model() -> None:
    assert torch.equal(after_steps(0.0, 1).weights["weight"], torch.ones(2))


def test_the_first_steps_are_soon_forgotten() -> None:
    """Step k keeps at most (k + 1) / (k + 10) of what was there, whatever the decay."""
    left = 1.0
    for step in range(20):
        left *= (step + 1) / (step + 10)
    assert after_steps(0.9999, 20).weights["weight"].tolist() == pytest.approx([1 - left] * 2, abs=1e-6)


def test_later_the_decay_holds() -> None:
    average = after_steps(0.5, 0)
    model = Counting()
    with torch.no_grad():
        model.weight.fill_(1)
    for step in range(1000, 1003):
        average.update(model, step)
    assert average.weights["weight"].tolist() == pytest.approx([1 - 0.5**3] * 2)


def test_numbers_keep_their_formats_and_counters_are_copied() -> None:
    average = after_steps(0.9, 7)
    assert average.weights["small"].dtype == torch.float16
    assert average.weights["count"].item() == 7
