"""Whether the tensors of a LoRA file fit a layer, by their shapes alone: for plans and for loading."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from linfusion_cli.weights.layer_shapes import Shape, Shapes

BIASES = ("bias", "diff_b", "b_norm")


def misfit(kind: str, parts: Mapping[str, Shape], weight: Shape) -> str:
    """Why an update does not fit a layer, "" if it does.

    kind: as lora_layer_names.kind_of_update() says; parts: the shapes of its tensors by canonical name; weight: of the
    layer's weight
    """
    given = dict(parts)
    if name := next((name for name, shape in given.items() if 0 in shape), ""):
        return f"has an empty tensor in the file ({name})"
    for name in BIASES:
        if name in given and math.prod(given[name]) != weight[0]:
            return f"has a bias of {math.prod(given[name])} in the file, {weight[0]} in the model"
    if given.keys() <= {*BIASES}:
        return ""
    try:
        made = MADE[kind](given, weight)
    except (KeyError, IndexError, ValueError):
        made = ()
    fits = bool(made) and made[0] == weight[0] and math.prod(made) == math.prod(weight)
    if fits and _scale_fits(given.get("dora_scale"), weight):
        return ""
    return f"has other shapes in the file than the model's {weight}"


def _scale_fits(scale: Shape | None, weight: Shape) -> bool:
    """Whether a DoRA magnitude is one number for each output, or for each input."""
    if scale is None or math.prod(scale) == weight[0]:
        return True
    return len(scale) == len(weight) and scale[:2] == (1, weight[1]) and math.prod(scale) == weight[1]


def _multiplied(first: Shape, second: Shape) -> Shape:
    """Of a matrix product whose second factor may have more dimensions. Raises ValueError if they don't fit."""
    if len(first) < 2 or len(second) < 2 or math.prod(first[1:]) != second[0]:
        raise ValueError
    return (first[0], *second[1:])


def _tucker(core: Shape, first: Shape, second: Shape) -> Shape:
    """core (rank, rank, ...), first (rank, out), second (rank, in)."""
    if core[:2] != (first[0], second[0]):
        raise ValueError
    return (first[1], second[1], *core[2:])


def _lora(parts: Shapes, weight: Shape) -> Shape:
    if "mid" not in parts:
        return _multiplied(parts["up"], parts["down"])
    up, down = parts["up"], parts["down"]
    return _tucker(parts["mid"], (math.prod(up[1:]), up[0]), (down[0], math.prod(down[1:])))


def _loha(parts: Shapes, weight: Shape) -> Shape:
    first, second = (
        _tucker(parts[f"hada_t{n}"], parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"])
        if f"hada_t{n}" in parts
        else _multiplied(parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"])
        for n in "12"
    )
    if first != second:
        raise ValueError
    return first


def _lokr(parts: Shapes, weight: Shape) -> Shape:
    left = parts["lokr_w1"] if "lokr_w1" in parts else _multiplied(parts["lokr_w1_a"], parts["lokr_w1_b"])
    if "lokr_w2" in parts:
        right = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        right = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        right = _multiplied(parts["lokr_w2_a"], parts["lokr_w2_b"])
    if len(left) != 2:
        raise ValueError
    return (left[0] * right[0], left[1] * right[1], *right[2:])


def _ia3(parts: Shapes, weight: Shape) -> Shape:
    return weight if math.prod(parts["ia3"]) in weight[:2] else ()


MADE: dict[str, Callable[[Shapes, Shape], Shape]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "ia3": _ia3,
    "full": lambda parts, weight: parts["diff"],
    "norm": lambda parts, weight: parts["w_norm"],
}
