"""Mounts LinFusion on a UNet that is somebody else's: checked first, then put on, then taken off exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from linfusion_cli.engine.attention.linear_attention import LinearAttention
from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions
from linfusion_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Mounted:
    """A UNet whose self-attentions are LinFusion's linear attentions now (arXiv 2409.02097).

    unet: the diffusers UNet2DConditionModel, changed in place. linfusion: the attentions and their weights.
    """

    unet: Any
    linfusion: LinFusion

    def unmount(self) -> None:
        """Puts the very attention modules back that were there before; does nothing if they are back already.

        Raises UsageError, and changes nothing, if a LoRA was loaded since: it lies on the linear attentions, and would
        be lost without a word.
        """
        if not has_linear_attention(self.unet):
            return
        if name := first_lora_layer(self.unet):
            raise UsageError(f"a LoRA is loaded on {name}: unload it first (pipe.unload_lora_weights()), then unmount")
        self.linfusion.unmount(self.unet)


def mount_on(unet: Any, linfusion: LinFusion) -> Mounted:
    """Puts the linear attentions in the UNet's self-attentions, on their device and in their dtype.

    Raises UsageError if linear attention is mounted already, if a LoRA is loaded, or if weights are offloaded to the
    meta device; WeightsError if the weights are of another model. The UNet is unchanged then.
    """
    if has_linear_attention(unet):
        raise UsageError("this UNet has linear attention already: unmount it first")
    if name := first_lora_layer(unet):
        raise UsageError(f"a LoRA is loaded on {name}: unload it, mount, then load it again")
    if name := next((name for name, value in unet.named_parameters() if value.is_meta), ""):
        raise UsageError(f"the weights of {name} are offloaded: mount before enable_sequential_cpu_offload()")
    linfusion.mount(unet)
    return Mounted(unet, linfusion)


def has_linear_attention(unet: nn.Module) -> bool:
    """Whether any self-attention of the UNet is linear."""
    return any(isinstance(module, LinearAttention) for module in self_attentions(unet).values())


def first_lora_layer(unet: nn.Module) -> str:
    """The name of the first layer on which peft has put a LoRA; "" if there is none."""
    return next((name for name, module in unet.named_modules() if type(module).__module__.startswith("peft.")), "")
