"""What a file of kohya's or LyCORIS' kinds adds to one layer's weight: LoRA, LoHa, LoKr, (IA)^3, full, norms and DoRA.

LoHa: arXiv 2108.06098. LoKr and the others: LyCORIS, arXiv 2309.14859. DoRA: arXiv 2402.09353. (IA)^3: arXiv
2205.05638. Every scale alpha / rank acts once, as in training, in ComfyUI and in AUTOMATIC1111. (lycoris-lora 4.1's
`merge_to` applies it twice for LoHa, and for LoKr with factors; its forward pass does not.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.weights.lora_shapes import misfit

Parts = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Update:
    """What a file says of one layer.

    part, module: "unet", "text_encoder" or "text_encoder_2", and the layer's name inside
    kind: "lora", "loha", "lokr", "ia3", "full" or "norm"; parts: its tensors by canonical name
    alpha: None means the rank. root_rank: alpha is divided by the rank's square root (rsLoRA)
    norm_with_weight: DoRA as peft has it: per output, and with the user's weight inside the norm; else as LyCORIS
    """

    part: str
    module: str
    kind: str
    parts: Parts
    alpha: float | None = None
    root_rank: bool = False
    norm_with_weight: bool = False

    @property
    def plain(self) -> bool:
        """Two factors and nothing else: what peft puts beside a linear layer."""
        return self.kind == "lora" and set(self.parts) == {"down", "up"}

    @property
    def rank(self) -> int:
        """0 for kinds without one."""
        named = {"lora": ("down",), "loha": ("hada_w1_b",), "lokr": ("lokr_w1_b", "lokr_w2_b")}.get(self.kind, ())
        return next((int(self.parts[name].shape[0]) for name in named if name in self.parts), 0)

    @property
    def scale(self) -> float:
        """alpha / rank; 1 where there is no rank."""
        if self.alpha is None or not self.rank:
            return 1.0
        return self.alpha / (math.sqrt(self.rank) if self.root_rank else self.rank)

    def delta(self, shape: torch.Size, weight: Tensor) -> Tensor:
        """What is added to a weight at full strength, float32, of the shape given.

        Raises RuntimeError or ValueError if it has another shape.
        """
        raw = DELTAS[self.kind](self.parts, weight) * self.scale
        if raw.shape[0] != shape[0]:
            raise ValueError(f"{raw.shape[0]} outputs instead of {shape[0]}")
        return raw.reshape(shape)

    def merged(self, layer: Any, strength: float) -> dict[str, Tensor]:
        """The layer's parameters with the update, in their own number format. Nothing of the layer is changed."""
        found: dict[str, Tensor] = {}
        weight = layer.weight
        if not set(self.parts) <= BIAS_ALONE:
            found["weight"] = self._weight(weight.float(), strength).to(weight.dtype)
            if weight.ndim == 4 and weight.device.type == "cpu":
                found["weight"] = found["weight"].contiguous(memory_format=torch.channels_last)
        bias = getattr(layer, "bias", None)
        for name in sorted(BIAS_ALONE & set(self.parts)):
            scale = self.scale if name == "bias" else 1.0  # peft's, beside the factors
            added = strength * scale * self.parts[name].to(weight.device, torch.float32)
            bias = added if bias is None else bias.float() + added
            found["bias"] = bias.to(weight.dtype)
        return found

    def _weight(self, weight: Tensor, strength: float) -> Tensor:
        delta = self.delta(weight.shape, weight)
        if "dora_scale" not in self.parts:
            return weight + strength * delta
        magnitude = self.parts["dora_scale"].to(weight)
        if self.norm_with_weight:
            moved = weight + strength * delta
            per_output = magnitude.reshape(-1, *[1] * (moved.ndim - 1))  # of convolutions peft has it as (1, out, 1, 1)
            return moved * (per_output / _norm(moved, per_output))
        moved = weight + delta
        ratio = _shaped(magnitude, moved) / (_norm(moved, _shaped(magnitude, moved)) + torch.finfo(torch.float32).eps)
        return moved * (strength * (ratio - 1) + 1)

    def misfit(self, layer: Any) -> str:
        """Why the update does not fit a layer, "" if it does. The layer may be hollow."""
        return misfit(
            self.kind, {name: tuple(part.shape) for name, part in self.parts.items()}, tuple(layer.weight.shape)
        )


BIAS_ALONE = {"bias", "diff_b", "b_norm"}


def _shaped(magnitude: Tensor, weight: Tensor) -> Tensor:
    """A DoRA magnitude as it broadcasts over a weight: per output if nothing says that it is per input."""
    if magnitude.ndim == weight.ndim and magnitude.shape[:2] == (1, weight.shape[1]):
        return magnitude
    return magnitude.reshape(-1, *[1] * (weight.ndim - 1))


def _norm(weight: Tensor, magnitude: Tensor) -> Tensor:
    """The norm of a weight over all dimensions but the one that the magnitude is for."""
    kept = 1 if magnitude.shape[0] == 1 and magnitude.shape[1] == weight.shape[1] else 0
    over = [dim for dim in range(weight.ndim) if dim != kept]
    norm: Tensor = torch.linalg.vector_norm(weight, dim=over, keepdim=True)
    return norm


def _floats(parts: Parts, like: Tensor) -> dict[str, Tensor]:
    return {name: value.to(like.device, torch.float32) for name, value in parts.items()}


def _lora(parts: Parts, like: Tensor) -> Tensor:
    """The product of up (out, rank, ...) and down (rank, in, ...).

    tucker: a core (rank, rank, height, width) between 1x1 factors
    """
    given = _floats(parts, like)
    down, up = given["down"], given["up"]
    if "mid" in given:
        return torch.einsum("mnhw,om,ni->oihw", given["mid"], up.flatten(1), down.flatten(1))
    return _product(up, down)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """first (out, rank, ...), second (rank, ...) -> (out, ...): a matrix product, the dimensions of second kept."""
    return (first.flatten(1) @ second.flatten(1)).reshape(len(first), *second.shape[1:])


def _tucker(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """core (rank, rank, ...), first (rank, out), second (rank, in) -> (out, in, ...)."""
    return torch.einsum("ij...,ip,jr->pr...", core, first, second)


def _loha(parts: Parts, like: Tensor) -> Tensor:
    """The product, element by element, of two low-rank matrices."""
    given = _floats(parts, like)
    halves = []
    for number in "12":
        first, second = given[f"hada_w{number}_a"], given[f"hada_w{number}_b"]
        core = given.get(f"hada_t{number}")
        halves.append(_product(first, second) if core is None else _tucker(core, first, second))
    return halves[0] * halves[1]


def _lokr(parts: Parts, like: Tensor) -> Tensor:
    """The Kronecker product of two matrices, each whole or in factors."""
    given = _floats(parts, like)
    left = given["lokr_w1"] if "lokr_w1" in given else _product(given["lokr_w1_a"], given["lokr_w1_b"])
    if "lokr_w2" in given:
        right = given["lokr_w2"]
    elif "lokr_t2" in given:
        right = _tucker(given["lokr_t2"], given["lokr_w2_a"], given["lokr_w2_b"])
    else:
        right = _product(given["lokr_w2_a"], given["lokr_w2_b"])
    return torch.kron(left.reshape(*left.shape, *[1] * (right.ndim - 2)), right.contiguous())


def _ia3(parts: Parts, like: Tensor) -> Tensor:
    """Each input channel, or each output channel, of the weight times a learned factor."""
    factor = parts["ia3"].to(like.device, torch.float32).flatten()
    on_input = bool(parts["on_input"].item())
    return like * factor.reshape((1, -1, *[1] * (like.ndim - 2)) if on_input else (-1, *[1] * (like.ndim - 1)))


DELTAS: dict[str, Callable[[Parts, Tensor], Tensor]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "ia3": _ia3,
    "full": lambda parts, like: parts["diff"].to(like.device, torch.float32),
    "norm": lambda parts, like: parts["w_norm"].to(like.device, torch.float32),
}
