"""One UNet and its adapters, mounted in the order that works: LinFusion first, then LoRA on the mounted layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.adapters.ip_adapter import IPAdapter
from linfusion_cli.engine.adapters.lora import Lora
from linfusion_cli.engine.attention.linfusion import LinFusion


class Mounted:
    """A UNet that can be asked for softmax or linear self-attention; everything else that is mounted stays in force."""

    def __init__(
        self, unet: Any, linfusion: LinFusion | None, loras: tuple[Lora, ...] = (), ip_adapter: IPAdapter | None = None
    ) -> None:
        self.unet = unet
        self._linfusion = linfusion
        self._loras = loras
        self._ip_adapter = ip_adapter
        self._linear, self._stages = False, "base"
        self._mount_loras()
        if ip_adapter is not None:
            ip_adapter.mount(unet)

    @property
    def modules(self) -> tuple[Any, ...]:
        """The networks that go on and off the UNet."""
        return () if self._linfusion is None else (self._linfusion.attentions,)

    @property
    def waiting_updates(self) -> tuple[Tensor, ...]:
        """The tensors of the LoRAs that are not on the UNet, because they act in other stages."""
        waiting = (lora for number, lora in enumerate(self._loras) if number not in self._acting(self._stages))
        updates = [update for lora in waiting for update in lora.updates]
        return tuple(part for one in updates for part in (*one.parts.values(), torch.tensor(one.scale)))

    def attend(self, attention: str, stages: str = "base") -> Any:
        """The UNet with "linear" or "softmax" self-attention, and with the LoRAs of the "base" or "upscale" stages.

        LoRA layers move along with the attention: they are inside it.
        """
        linear = attention == "linear"
        if linear and self._linfusion is None:
            raise RuntimeError("no LinFusion weights were loaded for this plan")
        if linear != self._linear or self._acting(stages) != self._acting(self._stages):
            self._unmount_loras()
            if self._linfusion is not None and linear != self._linear:
                (self._linfusion.mount if linear else self._linfusion.unmount)(self.unet)
            self._linear, self._stages = linear, stages
            self._mount_loras()
        return self.unet

    def _acting(self, stages: str) -> list[int]:
        """The positions of the LoRAs that act in stages."""
        return [number for number, lora in enumerate(self._loras) if lora.stages in ("", stages)]

    def unmount(self) -> None:
        """Leaves the UNet as it was loaded."""
        self.attend("softmax")
        self._unmount_loras()
        if self._ip_adapter is not None:
            self._ip_adapter.unmount(self.unet)

    def _mount_loras(self) -> None:
        for number in self._acting(self._stages):
            self._loras[number].mount(self.unet, number)

    def _unmount_loras(self) -> None:
        for number in reversed(self._acting(self._stages)):
            self._loras[number].unmount(self.unet, number)
