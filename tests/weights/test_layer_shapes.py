"""The shapes of single layers are those of torch and diffusers."""

from typing import Any

import pytest
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from linfusion_cli.weights.layer_shapes import Shapes, convolution, first_difference, linear, norm, resnet


def block(inputs: int, outputs: int, time: int) -> Any:
    return ResnetBlock2D(in_channels=inputs, out_channels=outputs, temb_channels=time or None, groups=2)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (nn.Linear(3, 5), linear("x", 3, 5)),
        (nn.Linear(3, 5, bias=False), linear("x", 3, 5, bias=False)),
        (nn.Conv2d(3, 5, 3), convolution("x", 3, 5)),
        (nn.Conv2d(3, 5, 1, bias=False), convolution("x", 3, 5, 1, bias=False)),
        (nn.GroupNorm(2, 4), norm("x", 4)),
        (block(4, 6, 8), resnet("x", 4, 6, 8)),
        (block(4, 4, 0), resnet("x", 4, 4)),
    ],
)
def test_the_shapes_are_those_of_the_layer(layer: nn.Module, shapes: Shapes) -> None:
    assert shapes == {f"x.{name}": tuple(value.shape) for name, value in layer.state_dict().items()}


def test_the_first_difference() -> None:
    assert first_difference({"a": (1,), "b": (2,)}, {"a": (1,), "b": (2,)}) == ""
    assert first_difference({"a": (1,), "b": (2,)}, {"b": (2,)}) == "a"
    assert first_difference({"a": (1,), "b": (2,)}, {"a": (1,), "b": (3,)}) == "b"
    assert first_difference({"a": (1,)}, {"a": (1,), "c": (3,)}) == "c"
