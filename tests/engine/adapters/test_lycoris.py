"""What each kind of file adds to a layer, against the papers' formulas in plain loops and against lycoris-lora."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from linfusion_cli.engine.adapters.lycoris import Update

RANK, ALPHA, STRENGTH = 2, 3.0, 0.7


@pytest.fixture(params=["linear", "convolution"])
def layer(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    return nn.Linear(12, 8) if request.param == "linear" else nn.Conv2d(12, 8, 3)


def update(kind: str, parts: dict[str, Tensor], alpha: float | None = ALPHA, **options: Any) -> Update:
    return Update("unet", "layer", kind, parts, alpha, **options)


def merged(one: Update, layer: Any, strength: float = STRENGTH) -> Tensor:
    assert one.misfit(layer) == ""
    return one.merged(layer, strength)["weight"]


def columns(layer: Any) -> int:
    return int(layer.weight[0].numel())


def lora_parts(layer: Any) -> dict[str, Tensor]:
    ones = [1] * (layer.weight.ndim - 2)
    return {"down": torch.randn(RANK, *layer.weight.shape[1:]), "up": torch.randn(8, RANK, *ones)}


def naive_product(up: Tensor, down: Tensor) -> Tensor:
    """up @ down, one element at a time."""
    up, down = up.flatten(1).double(), down.flatten(1).double()
    rows = [
        [sum(up[i, k] * down[k, j] for k in range(down.shape[0])) for j in range(down.shape[1])] for i in range(len(up))
    ]
    return torch.tensor(rows)


def test_lora(layer: Any) -> None:
    parts = lora_parts(layer)
    delta = naive_product(parts["up"], parts["down"]).reshape(layer.weight.shape) * ALPHA / RANK
    assert torch.allclose(merged(update("lora", parts), layer).double(), layer.weight + STRENGTH * delta, atol=1e-5)


def test_tucker_lora() -> None:
    layer = nn.Conv2d(12, 8, 3)
    parts = {
        "down": torch.randn(RANK, 12, 1, 1),
        "mid": torch.randn(RANK, RANK, 3, 3),
        "up": torch.randn(8, RANK, 1, 1),
    }
    down, middle, up = (nn.Conv2d(*shape, bias=False) for shape in ((12, RANK, 1), (RANK, RANK, 3), (RANK, 8, 1)))
    for module, name in ((down, "down"), (middle, "mid"), (up, "up")):
        module.weight.data.copy_(parts[name])
    x = torch.randn(1, 12, 5, 5)
    expected = layer(x) + STRENGTH * ALPHA / RANK * up(middle(down(x)))
    found = nn.functional.conv2d(x, merged(update("lora", parts), layer), layer.bias)
    assert torch.allclose(found, expected, atol=1e-4)


def test_loha(layer: Any) -> None:
    parts = {f"hada_w{i}_a": torch.randn(8, RANK) for i in "12"} | {
        f"hada_w{i}_b": torch.randn(RANK, columns(layer)) for i in "12"
    }
    first, second = (naive_product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in "12")
    delta = (first * second).reshape(layer.weight.shape) * ALPHA / RANK
    assert torch.allclose(merged(update("loha", parts), layer).double(), layer.weight + STRENGTH * delta, atol=1e-4)


def test_tucker_loha() -> None:
    layer = nn.Conv2d(12, 8, 3)
    parts = {f"hada_t{i}": torch.randn(RANK, RANK, 3, 3) for i in "12"}
    parts |= {f"hada_w{i}_a": torch.randn(RANK, 8) for i in "12"} | {
        f"hada_w{i}_b": torch.randn(RANK, 12) for i in "12"
    }
    delta = torch.ones(8, 12, 3, 3)
    for number in "12":
        core, a, b = (parts[f"hada_{name}"] for name in (f"t{number}", f"w{number}_a", f"w{number}_b"))
        half = torch.zeros(8, 12, 3, 3)
        for i, j in itertools.product(range(RANK), repeat=2):
            half += core[i, j] * a[i][:, None, None, None] * b[j][None, :, None, None]
        delta = delta * half
    found = merged(update("loha", parts), layer)
    assert torch.allclose(found, layer.weight + STRENGTH * ALPHA / RANK * delta, atol=1e-4)


@pytest.mark.parametrize(("left", "right"), [("whole", "whole"), ("whole", "factors"), ("factors", "factors")])
def test_lokr(layer: Any, left: str, right: str) -> None:
    kernel = layer.weight.shape[2:]
    inner = 6 * math.prod(kernel)
    small, large = torch.randn(4, 2), torch.randn(2, inner)
    parts: dict[str, Tensor] = {"lokr_w1": small}
    if left == "factors":
        parts = {"lokr_w1_a": torch.randn(4, RANK), "lokr_w1_b": torch.randn(RANK, 2)}
        small = parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if right == "factors":
        parts |= {"lokr_w2_a": torch.randn(2, RANK), "lokr_w2_b": torch.randn(RANK, inner)}
        large = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    else:
        parts["lokr_w2"] = large.reshape(2, 6, *kernel)
    cells = large.reshape(2, 6, *kernel)
    delta = torch.zeros_like(layer.weight)
    for row, column, i, j in itertools.product(range(4), range(2), range(2), range(6)):
        delta[2 * row + i, 6 * column + j] = small[row, column] * cells[i, j]
    scale = 1.0 if left == right == "whole" else ALPHA / RANK  # whole matrices have no rank
    assert torch.allclose(merged(update("lokr", parts), layer), layer.weight + STRENGTH * scale * delta, atol=1e-4)


@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3_scales_channels(on_input: int) -> None:
    layer = nn.Linear(12, 8, bias=False)
    factors = torch.randn(12 if on_input else 8)
    one = update("ia3", {"ia3": factors, "on_input": torch.tensor(on_input)}, None)
    x = torch.randn(3, 12)
    scale = 1 + STRENGTH * factors
    expected = layer(x * scale) if on_input else layer(x) * scale
    assert torch.allclose(x @ merged(one, layer).T, expected, atol=1e-5)


def test_full_with_its_bias(layer: Any) -> None:
    parts = {"diff": torch.randn_like(layer.weight), "diff_b": torch.randn(8)}
    found = update("full", parts, None).merged(layer, STRENGTH)
    assert torch.allclose(found["weight"], layer.weight + STRENGTH * parts["diff"], atol=1e-6)
    assert torch.allclose(found["bias"], layer.bias + STRENGTH * parts["diff_b"], atol=1e-6)


def test_a_bias_alone_leaves_the_weight() -> None:
    layer = nn.Linear(12, 8, bias=False)
    found = update("full", {"diff_b": torch.ones(8)}, None).merged(layer, STRENGTH)
    assert list(found) == ["bias"]
    assert torch.equal(found["bias"], torch.full((8,), STRENGTH))


def test_norms() -> None:
    layer = nn.LayerNorm(8)
    found = update("norm", {"w_norm": torch.ones(8), "b_norm": torch.ones(8)}, None).merged(layer, STRENGTH)
    assert torch.allclose(found["weight"], torch.full((8,), 1 + STRENGTH))
    assert torch.allclose(found["bias"], torch.full((8,), STRENGTH))


@pytest.mark.parametrize("side", [0, 1])
def test_dora_of_lycoris_moves_from_the_weight_to_the_decomposed_one(layer: Any, side: int) -> None:
    """At strength 1 each row (or column) of the result has the length of dora_scale, in the direction of W + delta."""
    ones = [1] * layer.weight.ndim
    ones[side] = layer.weight.shape[side]
    parts = {**lora_parts(layer), "dora_scale": torch.rand(ones) + 0.5}
    moved = layer.weight + naive_product(parts["up"], parts["down"]).reshape(layer.weight.shape).float() * ALPHA / RANK
    over = [dim for dim in range(moved.ndim) if dim != side]
    whole = moved / moved.pow(2).sum(over, keepdim=True).sqrt() * parts["dora_scale"]
    assert torch.allclose(merged(update("lora", parts), layer, 1.0), whole, atol=1e-5)
    assert torch.allclose(merged(update("lora", parts), layer, 0.25), moved + 0.25 * (whole - moved), atol=1e-5)


def test_dora_of_peft_scales_the_factors_inside_the_norm() -> None:
    from peft import LoraConfig, get_peft_model

    model = nn.Sequential(nn.Linear(12, 8))
    wrapped: Any = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"], use_dora=True))
    layer = wrapped.base_model.model[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    magnitude = layer.lora_magnitude_vector["default"].weight
    nn.init.uniform_(magnitude, 0.5, 1.5)
    parts = {"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight, "dora_scale": magnitude}
    layer.set_scale("default", STRENGTH)
    x = torch.randn(3, 12)
    base = layer.get_base_layer()
    ours = merged(update("lora", {k: v.detach() for k, v in parts.items()}, norm_with_weight=True), base)
    assert torch.allclose(x @ ours.T + base.bias, wrapped(x), atol=1e-5)


def test_rank_stabilised_scale() -> None:
    parts = {"down": torch.randn(4, 12), "up": torch.randn(8, 4)}
    assert update("lora", parts, 3.0, root_rank=True).scale == 1.5


@pytest.mark.parametrize("shape", [(RANK, 10), (RANK, 8)])
def test_another_size_is_a_misfit(shape: tuple[int, int]) -> None:
    parts = {"down": torch.randn(*shape), "up": torch.randn(12 if shape[1] == 8 else 8, RANK)}
    assert "other shapes" in update("lora", parts).misfit(nn.Linear(12, 8))
