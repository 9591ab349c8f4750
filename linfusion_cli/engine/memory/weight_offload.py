"""Where a model's weights are during a pass: all on the device, or each layer's only while it runs."""

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
    """resident: everything lies on the device; else layers lie in RAM and are copied to it for as long as they are used."""

    device: torch.device
    resident: bool

    def move(self, unet: Any) -> Any:
        """Moves a UNet or ControlNet to where its weights belong, unless they are there; gives it back."""
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
        """The modules' weights are on the device inside, and where they were afterwards, whatever happens."""
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
