"""Names and shapes of the tensors of one layer, as torch keeps them: what the shapes of whole networks are made of."""

from __future__ import annotations

from collections.abc import Mapping

Shape = tuple[int, ...]
Shapes = dict[str, Shape]  # by name


def linear(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    """A linear layer: weight (outputs, inputs), bias (outputs,)."""
    return {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def convolution(name: str, inputs: int, outputs: int, side: int = 3, *, bias: bool = True) -> Shapes:
    """A convolution: weight (outputs, inputs, side, side), bias (outputs,)."""
    return {f"{name}.weight": (outputs, inputs, side, side)} | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, width: int) -> Shapes:
    """A LayerNorm or GroupNorm with weight and bias."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def resnet(name: str, inputs: int, outputs: int, time: int = 0) -> Shapes:
    """A ResNet block of diffusers. time: the width of the time embedding that it reads, 0 for none."""
    shapes = norm(f"{name}.norm1", inputs) | convolution(f"{name}.conv1", inputs, outputs)
    if time:
        shapes |= linear(f"{name}.time_emb_proj", time, outputs)
    shapes |= norm(f"{name}.norm2", outputs) | convolution(f"{name}.conv2", outputs, outputs)
    return shapes | (convolution(f"{name}.conv_shortcut", inputs, outputs, 1) if inputs != outputs else {})


def first_difference(expected: Mapping[str, Shape], given: Mapping[str, Shape]) -> str:
    """The first tensor that is missing, of another shape, or not expected; "" if there is none."""
    for name in (*expected, *given):
        if expected.get(name) != given.get(name):
            return name
    return ""
