"""Weights lie where they belong, and those of a layer come back from the device whatever happens."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from late import Early, Late, NeverJoined, Short
from tiny import mounted
from torch import nn

from linfusion_cli.engine.memory import weight_offload
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Arenas, WaitingWeights, WeightPrefetcher, Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet

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
        assert not non_blocking, "only from page-locked RAM to a card may the host go on at once"
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


def layers(count: int) -> list[nn.Module]:
    return [nn.Linear(3, 3) for _ in range(count)]


def run_pass(weights: Weights, modules: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    for module in modules:
        with weights.lent(module):
            x = module(x)
    return x


@torch.inference_mode()
def test_the_next_layers_weights_come_while_one_computes() -> None:
    """From the second pass on, but for the first layer of all; with copies that happen as late as they may."""
    torch.manual_seed(0)
    modules, x = layers(4), torch.randn(2, 3)
    plain = run_pass(Weights(CPU, resident=True), modules, x)
    ahead = WeightPrefetcher(Late())
    weights = Weights(CPU, resident=False, ahead=ahead)
    for passes in (1, 2, 3):
        assert torch.equal(run_pass(weights, modules, x), plain)
        assert ahead.hits == max(0, 4 * (passes - 1) - 1)
    assert ahead.copies <= 4 * 3 + 1, "one copy of a layer a pass"


@torch.inference_mode()
def test_a_wait_for_weights_that_is_missing_is_seen() -> None:
    modules, x = layers(3), torch.randn(2, 3)
    assert not torch.isfinite(
        run_pass(Weights(CPU, resident=False, ahead=WeightPrefetcher(NeverJoined())), modules, x)
    ).all()


@torch.inference_mode()
def test_another_layer_than_expected_and_no_memory_ahead_change_nothing() -> None:
    torch.manual_seed(0)
    modules, x = layers(5), torch.randn(2, 3)
    streams = Short()
    weights = Weights(CPU, resident=False, ahead=WeightPrefetcher(streams))
    streams.ahead = False
    for order in ([0, 1, 2, 3, 4], [0, 2, 1, 4, 3], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]):
        chosen = [modules[i] for i in order]
        expected = run_pass(Weights(CPU, resident=True), chosen, x)
        assert torch.equal(run_pass(weights, chosen, x), expected)


def test_no_memory_for_weights_ahead_is_no_error_but_other_errors_are() -> None:
    class Full(Late):
        full = False

        def upload(self, source: torch.Tensor) -> tuple[torch.Tensor, int]:
            if self.full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().upload(source)

    streams, module = Full(), nn.Linear(2, 2)
    ahead = WeightPrefetcher(streams)
    streams.full = True
    ahead._look_ahead(module)
    assert ahead._coming is None
    with pytest.raises(torch.OutOfMemoryError):
        ahead.take(module)


@torch.inference_mode()
def test_a_block_that_two_sweeps_need_is_copied_once() -> None:
    """A transformer's block sums for its own attention in one sweep, and is applied in the next."""
    unet, tensors = mounted("sdxl")
    ahead, store = WeightPrefetcher(Early()), ActivationStore.unlimited(CPU)
    sample, text = tensors["sample"][:1].double(), tensors["encoder_hidden_states"][:1].double()
    added = {name: tensors[name][:1].double() for name in ("text_embeds", "time_ids")}
    plain = BandedUNet(unet, 4, store, Weights(CPU, resident=True))(sample, torch.tensor(3), text, added)
    streamed = BandedUNet(unet, 4, store, Weights(CPU, resident=False, ahead=ahead))
    assert torch.equal(streamed(sample, torch.tensor(3), text, added), plain)
    resnets = [m for m in unet.modules() if type(m).__name__ == "ResnetBlock2D"]
    transformers = [m for m in unet.modules() if type(m).__name__ == "Transformer2DModel"]
    blocks = sum(len(transformer.transformer_blocks) for transformer in transformers)
    assert ahead.copies == len(resnets) + 3 * len(transformers) + blocks
    before = ahead.copies
    assert torch.equal(streamed(sample, torch.tensor(3), text, added), plain)
    assert ahead.copies - before == before + 1, "as many in every pass, and the first layer of the next one"
    assert ahead.hits == before - 1


@pytest.fixture
def pinned_blocks(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The blocks of page-locked RAM that were asked for, of ordinary RAM; arenas are small."""
    made: list[torch.Tensor] = []
    empty = torch.empty

    def pinned(*shape: Any, **options: Any) -> torch.Tensor:
        assert options.pop("pin_memory")
        made.append(empty(*shape, **options))
        return made[-1]

    monkeypatch.setattr(weight_offload, "WEIGHT_ARENA_BYTES", 1 << 16)
    monkeypatch.setattr(torch, "empty", pinned)
    return made


def test_weights_share_page_locked_arenas(pinned_blocks: list[torch.Tensor]) -> None:
    """Each keeps its values and its layout; a block of its own for each would take up to twice the RAM."""
    torch.manual_seed(0)
    weights = [torch.randn(size, size, 3, 3).half().to(memory_format=torch.channels_last) for size in (5, 30, 17, 40)]
    weights += [torch.randn(7), torch.randn(100, 300), torch.randn(3, 5).t(), torch.randn(())]
    arenas = Arenas()
    for weight in weights:
        placed = arenas.placed(weight)
        assert torch.equal(placed, weight)
        assert placed.stride() == weight.stride()
        assert placed.data_ptr() % 64 == 0
    assert sum(arena.nbytes for arena in pinned_blocks) == (1 << 17) + (1 << 16), (
        "one large block of its own, and one arena"
    )


def test_what_is_moved_later_shares_the_arena_that_is_open(
    pinned_blocks: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan counts one arena that is not full; linear attention, which comes after the UNet, had one more."""
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: False)
    weights = Weights(torch.device("cuda:0"), resident=False)
    for _ in range(2):
        layers = nn.Module()
        layers.add_module("resnets", nn.ParameterList([nn.Parameter(torch.zeros(9, 9))]))
        weights.move(layers)
    assert len(pinned_blocks) == 1


class OnCard:
    """A weight that says it lies on a card, and a module of it."""

    def __init__(self, data: torch.Tensor) -> None:
        self.data, self.device = data, torch.device("cuda:0")

    def parameters(self) -> list["OnCard"]:
        return [self]

    def buffers(self) -> list["OnCard"]:
        return []


def test_weights_wait_in_the_same_page_locked_place_for_every_image(pinned_blocks: list[torch.Tensor]) -> None:
    shapes = ((8, 4, 3, 3), (5, 7), (3,))
    weights = [OnCard(torch.randn(shape)) for shape in shapes]
    weights[0].data = weights[0].data.to(memory_format=torch.channels_last)
    waiting, places = WaitingWeights(), []
    for image in range(3):
        there = [weight.data.clone() + image for weight in weights]  # a LoRA may have changed them
        for weight, data in zip(weights, there, strict=True):
            weight.data = data
            waiting.take(weight)
        places.append([weight.data.data_ptr() for weight in weights])
        assert all(torch.equal(weight.data, data) for weight, data in zip(weights, there, strict=True))
        assert [weight.data.stride() for weight in weights] == [data.stride() for data in there]
    assert places[0] == places[1] == places[2]
    assert len(pinned_blocks) == 1
    at_home = OnCard(torch.randn(3))
    at_home.device, before = torch.device("cpu"), at_home.data
    waiting.take(at_home)
    assert at_home.data is before
