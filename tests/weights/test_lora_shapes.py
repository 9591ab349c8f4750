"""What the shapes of a LoRA's tensors say of its layer is what merging them does."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.weights.lora_layer_names import KINDS
from linfusion_cli.weights.lora_shapes import MADE, Shape, misfit

SIDES = st.sampled_from([1, 2, 3, 4, 6])
KERNEL = st.sampled_from([1, 3])
SHAPES = st.one_of(st.tuples(SIDES), st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, KERNEL, KERNEL))
TUCKER_LOHA = {f"hada_t{n}": (2, 2, 3, 3) for n in "12"}
TUCKER_LOHA |= {f"hada_w{n}_a": (2, 4) for n in "12"} | {f"hada_w{n}_b": (2, 6) for n in "12"}
TUCKER_LOKR = {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 3), "lokr_t2": (2, 2, 3, 3)}
TUCKER_LOKR |= {"lokr_w2_a": (2, 2), "lokr_w2_b": (2, 2)}


def merges(kind: str, shapes: dict[str, Shape], weight: Shape) -> bool:
    """Whether tensors of these shapes can be merged into a weight, by doing it."""
    layer: Any = nn.Module()
    layer.register_parameter("weight", nn.Parameter(torch.ones(weight), requires_grad=False))
    parts = {name: torch.ones(shape) for name, shape in shapes.items()}
    try:
        found = Update("unet", "x", kind, parts).merged(layer, 1.0)
    except (RuntimeError, ValueError, KeyError, IndexError):
        return False
    bias = found.get("bias", torch.ones(weight[0]))
    return found.get("weight", layer.weight).shape == weight and bias.numel() == weight[0]


def whole(kind: str, weight: Shape, rank: int) -> dict[str, Shape]:
    """Shapes that fit."""
    out, inside, ones = weight[0], weight[1], (1,) * (len(weight) - 2)
    match kind:
        case "lora":
            return {"down": (rank, *weight[1:]), "up": (out, rank, *ones)}
        case "loha":
            sides = {"a": (out, rank), "b": (rank, math.prod(weight[1:]))}
            return {f"hada_w{n}_{side}": shape for n in "12" for side, shape in sides.items()}
        case "lokr":
            return {"lokr_w1": (1, 1), "lokr_w2_a": (out, rank), "lokr_w2_b": (rank, *weight[1:])}
        case "ia3":
            return {"ia3": (1, inside), "on_input": (1,)}
        case "full":
            return {"diff": weight, "diff_b": (out,)}
        case _:
            return {"w_norm": weight, "b_norm": (out,)}


def test_every_kind_has_its_shapes() -> None:
    assert MADE.keys() == KINDS.keys()


@given(st.data())
def test_what_fits_is_merged_and_what_does_not_is_not(data: st.DataObject) -> None:
    out, inside, rank = (data.draw(SIDES) for _ in range(3))
    weight = (out, inside) if data.draw(st.booleans()) else (out, inside, 3, 3)
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    shapes = whole(kind, weight, rank)
    if kind in ("lora", "loha") and data.draw(st.booleans()):
        shapes["dora_scale"] = (out, *[1] * (len(weight) - 1))
    assert (misfit(kind, shapes, weight), merges(kind, shapes, weight)) == ("", True)
    if kind != "ia3":
        shapes[data.draw(st.sampled_from(sorted(shapes)))] = data.draw(SHAPES)
        if not misfit(kind, shapes, weight):
            assert merges(kind, shapes, weight)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("lora", {"mid": (2, 3, 3, 3), "up": (4, 2, 1, 1), "down": (3, 6, 1, 1)}),
        ("loha", TUCKER_LOHA),
        ("lokr", TUCKER_LOKR),
    ],
)
def test_tucker_cores(kind: str, shapes: dict[str, Shape]) -> None:
    assert (misfit(kind, shapes, (4, 6, 3, 3)), merges(kind, shapes, (4, 6, 3, 3))) == ("", True)
    assert misfit(kind, shapes, (4, 5, 3, 3))
    assert misfit(kind, shapes | dict.fromkeys(list(shapes)[:1], (9, 9)), (4, 6, 3, 3))


@pytest.mark.parametrize(
    ("kind", "shapes", "weight"),
    [
        ("lokr", {"lokr_w1": (1, 1), "lokr_w2_a": (2, 2, 1, 1), "lokr_w2_b": (2, 1, 3, 3)}, (2, 1, 3, 3)),
        ("loha", {f"hada_w{n}_a": (4, 2, 1, 1) for n in "12"} | {f"hada_w{n}_b": (2, 6) for n in "12"}, (4, 6)),
        ("lora", {"up": (4, 2, 1, 1), "down": (2, 6)}, (4, 6)),
        ("lora", {"up": (2, 1), "down": (1, 1), "dora_scale": (1, 2)}, (2, 1)),
    ],
)
def test_factors_with_dimensions_of_one(kind: str, shapes: dict[str, Shape], weight: Shape) -> None:
    assert (misfit(kind, shapes, weight), merges(kind, shapes, weight)) == ("", True)


def test_a_kronecker_factor_of_a_convolution_is_refused() -> None:
    shapes = {"lokr_w1": (2, 2, 3, 3), "lokr_w2": (2, 3, 3, 3)}
    assert misfit("lokr", shapes, (4, 6, 3, 3)) == "has other shapes in the file than the model's (4, 6, 3, 3)"


def test_a_bias_alone() -> None:
    assert misfit("full", {"diff_b": (4,)}, (4, 6)) == ""
    assert misfit("full", {"diff_b": (5,)}, (4, 6)) == "has a bias of 5 in the file, 4 in the model"


def test_an_update_of_rank_0_is_named() -> None:
    assert misfit("lora", {"down": (0, 4), "up": (6, 0)}, (6, 4)) == "has an empty tensor in the file (down)"
