"""Weights lie where they belong, and those of a layer come back from the device whatever happens."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from linfusion_cli.engine.memory import weight_offload
from linfusion_cli.engine.memory.weight_offload import Weights

CPU, CARD = torch.device("cpu"), torch.device("mps")  # of the card only its name is used


@dataclass
class Layer:
    """A module with one parameter that says on which device it lies."""

    parameter: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(data=Data(CPU)))

    def parameters(self) -> list[Any]:
        return [self.parameter]

    def buffers(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class Data:
    device: torch.device

    def to(self, device: torch.device, *, non_blocking: bool) -> "Data":
        return Data(device)


def model() -> nn.Module:
    block, whole = nn.Module(), nn.Module()
    block.add_module("resnets", nn.ModuleList([nn.Linear(2, 2, bias=False)]))
    block.add_module("sampler", nn.Linear(2, 2, bias=False))
    whole.add_module("down_blocks", nn.ModuleList([block]))
    whole.add_module("conv_in", nn.Linear(2, 2, bias=False))
    return whole


@pytest.mark.parametrize("resident", [True, False])
def test_weights_of_layers_stay_in_ram_unless_resident(resident: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: dict[int, torch.device] = {}
    monkeypatch.setattr(weight_offload, "own", lambda value, device: moved.update({id(value): device}))
    whole = Weights(CARD, resident).move(model())
    assert {name: moved[id(value)] for name, value in whole.named_parameters()} == {
        "down_blocks.0.resnets.0.weight": CARD if resident else CPU,
        "down_blocks.0.sampler.weight": CARD,
        "conv_in.weight": CARD,
    }


def test_moving_twice_changes_nothing() -> None:
    weights, whole = Weights(CPU, resident=False), model()
    weights.move(whole)
    before = [value.data_ptr() for value in whole.parameters()]
    weights.move(whole)
    assert [value.data_ptr() for value in whole.parameters()] == before


@pytest.mark.parametrize("fails", [False, True])
def test_lent_weights_come_back_whatever_happens(fails: bool) -> None:
    layer = Layer()
    before = layer.parameter.data
    try:
        with Weights(CARD, resident=False).lent(layer):
            assert layer.parameter.data.device == CARD
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert layer.parameter.data is before


def test_resident_weights_are_not_copied() -> None:
    layer = Layer()
    before = layer.parameter.data
    with Weights(CARD, resident=True).lent(layer):
        assert layer.parameter.data is before
