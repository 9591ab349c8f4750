"""Where a model's weights lie during a pass: all on the device, or each layer's only while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.loading.safetensors_loader import CPU, own

STREAMED = ("resnets", "attentions")  # the children of a UNet's blocks that hold nearly all of its weights


@dataclass(frozen=True, slots=True)
class Weights:
    """resident: all weights lie on the device; else those of layers lie in RAM, with a copy on it while they run."""

    device: torch.device
    resident: bool

    def move(self, unet: Any) -> Any:
        """Moves the weights of a UNet or ControlNet to where they belong, unless they are there; returns the model."""
        for name, value in [*unet.named_parameters(), *unet.named_buffers()]:
            if self.resident or set(STREAMED).isdisjoint(name.split(".")):
                own(value, self.device)
            elif self.device.type == "cuda":
                value.data = value.data.pin_memory()
            else:
                own(value, CPU)
        return unet

    @contextmanager
    def lent(self, *modules: Any) -> Iterator[None]:
        """Inside, the modules' weights are on the device; afterwards, whatever happens, where they were."""
        kept: list[tuple[Tensor, Tensor]] = []
        if not self.resident:
            kept = [(value, value.data) for module in modules for value in [*module.parameters(), *module.buffers()]]
        try:
            for value, data in kept:
                value.data = data.to(self.device, non_blocking=True)
            yield
        finally:
            for value, data in kept:
                value.data = data
