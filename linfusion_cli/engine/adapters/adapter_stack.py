"""One UNet and its adapters, mounted in the order that works: LinFusion first, then LoRA on the mounted layers."""

from __future__ import annotations

from typing import Any

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
        self._linear = False
        self._mount_loras()
        if ip_adapter is not None:
            ip_adapter.mount(unet)

    @property
    def modules(self) -> tuple[Any, ...]:
        """The networks that go on and off the UNet."""
        return () if self._linfusion is None else (self._linfusion.attentions,)

    def attend(self, attention: str) -> Any:
        """The UNet with "linear" or "softmax" self-attention. LoRA layers move along: they are inside them."""
        linear = attention == "linear"
        if linear != self._linear:
            if self._linfusion is None:
                raise RuntimeError("no LinFusion weights were loaded for this plan")
            self._unmount_loras()
            (self._linfusion.mount if linear else self._linfusion.unmount)(self.unet)
            self._linear = linear
            self._mount_loras()
        return self.unet

    def unmount(self) -> None:
        """Leaves the UNet as it was loaded."""
        self.attend("softmax")
        self._unmount_loras()
        if self._ip_adapter is not None:
            self._ip_adapter.unmount(self.unet)

    def _mount_loras(self) -> None:
        for number, lora in enumerate(self._loras):
            lora.mount(self.unet, number)

    def _unmount_loras(self) -> None:
        for number in reversed(range(len(self._loras))):
            self._loras[number].unmount(self.unet, number)
