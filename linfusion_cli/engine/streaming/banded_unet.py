"""The UNet in bands of rows, exactly: a chain of sweeps over the rows of its layers (docs/design.md, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.compat_diffusers import time_and_added_embedding, unet_call
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.convolutions import Doubled
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.oom_fallback import WholeFirst
from linfusion_cli.engine.streaming.residuals import Residuals, SampleResiduals
from linfusion_cli.engine.streaming.row_source import Added, Field, Held, Joined, Parked, collect, normalised
from linfusion_cli.engine.streaming.unet_layers import Layers, Text, pairs
from linfusion_cli.errors import WeightsError, option
from linfusion_cli.geometry import Size
from linfusion_cli.planning.model_shapes import BANDABLE


@dataclass(frozen=True, slots=True)
class PlainUNet:
    """The diffusers UNet as it is, the whole image at once."""

    unet: Any

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        dilation: int = 1,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """The prediction for a sample (batch, channels, height, width), of the same shape.

        timestep:  (), the same for the whole batch; text: (batch, tokens, dim)
        added:     diffusers' added_cond_kwargs (SD-XL's sizes, an IP-Adapter's images), and the guidance embedding
        dilation:  of every convolution; residuals: what ControlNets add
        """
        options = residuals.for_diffusers() if residuals else {}
        with dilated(dilation):
            return unet_call(self.unet, sample, timestep, text, added, **options)


@dataclass(frozen=True, slots=True)
class BandedUNet:
    """Called like PlainUNet, with equal results. band_rows: a band's height in rows of each level."""

    unet: Any
    band_rows: int
    store: ActivationStore
    weights: Weights

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        dilation: int = 1,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """See PlainUNet; the samples of a batch run one after the other.

        Raises WeightsError for a UNet with blocks that can't run in bands.
        """
        check(self.unet)
        residuals = residuals or Residuals.none(len(sample))
        every = layers_of(self.unet, sample, timestep, text, added, dilation, self.band_rows, self.store, self.weights)
        passes = (_Pass(self.unet, layers) for layers in every)
        return torch.cat(
            [
                one.run(latents, added_inside)
                for one, latents, added_inside in zip(passes, sample.split(1), residuals.samples, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class WholeOrBands:
    """The whole image at once until memory runs out, then in bands, from the same step."""

    whole: PlainUNet
    banded: BandedUNet
    first: WholeFirst

    @staticmethod
    def of(unet: Any, band_rows: int, store: ActivationStore, weights: Weights) -> WholeOrBands:
        """band_rows: a band's height in rows of each level, if bands are needed."""
        return WholeOrBands(PlainUNet(unet), BandedUNet(unet, band_rows, store, weights), WholeFirst(store, "the UNet"))

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        dilation: int = 1,
        residuals: Residuals | None = None,
    ) -> Tensor:
        """See PlainUNet."""
        arguments = (sample, timestep, text, added, dilation, residuals)
        return self.first.run(lambda: self.whole(*arguments), lambda: self.banded(*arguments))


def layers_of(
    unet: Any,
    sample: Tensor,
    timestep: Tensor,
    text: Tensor,
    added: dict[str, Any] | None,
    dilation: int,
    band_rows: int,
    store: ActivationStore,
    weights: Weights,
) -> Sequence[Layers]:
    """The layers of a UNet or ControlNet with the inputs of each sample of a batch; see PlainUNet and Layers."""
    embedding = time_and_added_embedding(unet, sample, timestep, text, added or {})
    context: Text = text
    if hasattr(unet, "process_encoder_hidden_states"):
        context = unet.process_encoder_hidden_states(text, added or {})
    whole = Layers(band_rows, dilation, embedding, context, store, weights)
    return [replace(whole, embedding=embedding[i : i + 1], text=_sample(context, i)) for i in range(len(sample))]


def _sample(text: Text, i: int) -> Text:
    if isinstance(text, Tensor):
        return text[i : i + 1]
    return text[0][i : i + 1], [image[i : i + 1] for image in text[1]]


def check(unet: Any) -> None:
    """Raises WeightsError if a UNet or ControlNet has parts that can't run in bands."""
    blocks = [*unet.down_blocks, unet.mid_block, *getattr(unet, "up_blocks", ())]
    unsupported = sorted({type(block).__name__ for block in blocks} - BANDABLE)
    if unsupported or unet.config.resnet_time_scale_shift != "default":
        named = ", ".join(unsupported) or f"resnet_time_scale_shift {unet.config.resnet_time_scale_shift}"
        raise WeightsError(
            f"this UNet can't run in bands: {named}. Give more ",
            option("max_memory"),
            ", or a smaller ",
            option("size"),
            ", to run it whole",
        )


def way_down(unet: Any, layers: Layers, sample: Field, inside: Sequence[Field]) -> list[Held]:
    """From the first convolution's field through the middle block: every skip, and the middle's output last.

    inside: what T2I-Adapters add, see SampleResiduals
    """
    x = layers.park(sample)
    skips, more = [x], list(inside)
    for block in unet.down_blocks:
        steps = pairs(block)
        for resnet, transformer in steps:
            x = layers.resnet(x, resnet)
            x = x if transformer is None else layers.transformer(x, transformer)
            if more and transformer is not None and resnet is steps[-1][0]:
                x = layers.park(Added(x.field, more.pop(0)), x.field)
            skips.append(x)
        for downsampler in block.downsamplers or ():
            x = layers.park(layers.convolution(x.field, downsampler.conv))
            skips.append(x)
        if more and steps[-1][1] is None:
            x = skips[-1] = layers.park(Added(x.field, more.pop(0)), x.field)
    middle = unet.mid_block
    x = layers.resnet(x, middle.resnets[0])
    for transformer, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = layers.resnet(layers.transformer(x, transformer), resnet)
    if more and (more[0].channels, more[0].height) == (x.field.channels, x.field.height):
        x = layers.park(Added(x.field, more.pop(0)), x.field)
    return [*skips, x]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass of one sample: through the down blocks, the middle and the up blocks."""

    unet: Any
    layers: Layers

    def run(self, sample: Tensor, residuals: SampleResiduals) -> Tensor:
        with dilated(self.layers.dilation):
            return self._run(sample, residuals)

    def _run(self, sample: Tensor, residuals: SampleResiduals) -> Tensor:
        layers = self.layers
        stack = way_down(self.unet, layers, layers.convolution(Parked.of(sample), self.unet.conv_in), residuals.inside)
        for i, more in enumerate((*residuals.down, *residuals.middle)):
            stack[i] = layers.park(Added(stack[i].field, more), stack[i].field)
        for block in self.unet.up_blocks:
            self._up(stack, block)
        out = layers.convolution(normalised(stack.pop(), self.unet.conv_norm_out, silu=True), self.unet.conv_out)
        return collect(out, layers.band_rows, layers.store, layers.embedding.dtype)

    def _up(self, stack: list[Held], block: Any) -> None:
        """Takes its inputs off the stack, so that slabs are freed as soon as they are no longer needed."""
        x = stack.pop()
        for resnet, transformer in pairs(block):
            skip = stack.pop()
            x = self.layers.resnet(Held(Joined(x.field, skip.field), x.moments.joined(skip.moments), x.fused), resnet)
            del skip
            if transformer is not None:
                x = self.layers.transformer(x, transformer)
        for upsampler in block.upsamplers or ():
            size = Size(stack[-1].field.width, stack[-1].field.height)
            x = self.layers.park(self.layers.convolution(Doubled(x.field, size), upsampler.conv))
        stack.append(x)
