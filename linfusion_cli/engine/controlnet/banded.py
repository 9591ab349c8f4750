"""A ControlNet in bands, exactly: the UNet's down blocks and a 1x1 convolution for each skip (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.controlnet.model import PlainControlNet, PlainUnion, control_type
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import check, layers_of, way_down
from linfusion_cli.engine.streaming.convolutions import Convolution
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.group_norm import Statistics
from linfusion_cli.engine.streaming.oom_fallback import WholeFirst
from linfusion_cli.engine.streaming.residuals import Residuals, SampleResiduals
from linfusion_cli.engine.streaming.row_source import Added, Field, Held, Mapped, Parked, Spread, measure, park
from linfusion_cli.engine.streaming.unet_layers import Layers
from linfusion_cli.geometry import Size
from linfusion_cli.weights.controlnet_file import POOLED


@dataclass(frozen=True, slots=True)
class BandedControlNet:
    """Equal to a diffusers ControlNetModel. `band_rows` is a band's height in rows of each level.

    Its self-attention may be softmax or linear, as mounted.
    """

    controlnet: Any
    band_rows: int
    store: ActivationStore
    weights: Weights

    @torch.inference_mode()
    def condition(self, image: Field) -> Held:
        """The network's embedding of a control image (3 channels in [0, 1], output size in px); one for all steps."""
        embedding = self.controlnet.controlnet_cond_embedding
        entering = Mapped(image, lambda rows: rows.to(self.store.device, self.controlnet.dtype))
        x: Field = Mapped(Convolution(entering, embedding.conv_in, 1), F.silu)
        for conv in embedding.blocks:
            x = Mapped(Convolution(x, conv, 1), F.silu)
        return park(Convolution(x, embedding.conv_out, 1), self.band_rows, self.store, None, lambda _: None)

    @torch.inference_mode()
    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: Held,
        scale: float,
        dilation: int = 1,
    ) -> Residuals:
        """What to add inside the UNet, times `scale`; arguments as those of PlainUNet, and a condition()."""
        check(self.controlnet)
        passes = layers_of(
            self.controlnet, sample, timestep, text, added, dilation, self.band_rows, self.store, self.weights
        )
        with dilated(dilation):
            return Residuals(
                tuple(self._sample(sample[i : i + 1], condition, layers, scale) for i, layers in enumerate(passes))
            )

    def _sample(self, sample: Tensor, condition: Held, layers: Layers, scale: float) -> SampleResiduals:
        *skips, middle = way_down(self.controlnet, layers, self._entering(sample, condition, layers), ())
        out = _pooled if self.controlnet.config[POOLED] else _scaled
        down = tuple(
            out(skip, conv, scale) for skip, conv in zip(skips, self.controlnet.controlnet_down_blocks, strict=True)
        )
        return SampleResiduals(down, (out(middle, self.controlnet.controlnet_mid_block, scale),))

    def _entering(self, sample: Tensor, condition: Held, layers: Layers) -> Field:
        """What the first block reads."""
        return Added(layers.convolution(Parked.of(sample), self.controlnet.conv_in), condition.field)


@dataclass(frozen=True, slots=True)
class BandedUnion(BandedControlNet):
    """Equal to a diffusers ControlNetUnionModel. mode: what its image shows, see MODES."""

    mode: int

    def _sample(self, sample: Tensor, condition: Held, layers: Layers, scale: float) -> SampleResiduals:
        net = self.controlnet
        kinds = net.control_type_proj(control_type(net, self.mode, sample).flatten()).reshape(1, -1)
        embedding = layers.embedding + net.control_add_embedding(kinds.to(sample.dtype))
        return BandedControlNet._sample(self, sample, condition, replace(layers, embedding=embedding), scale)

    def _entering(self, sample: Tensor, condition: Held, layers: Layers) -> Field:
        """The sum of both, and of what a transformer says that read the mean of each over the image."""
        net = self.controlnet
        latents = layers.convolution(Parked.of(sample), net.conv_in)
        mean = measure(latents, self.band_rows, self.store, lambda _: None).moments.mean
        means = torch.stack([condition.moments.mean, mean]).to(sample.dtype)  # (2, channels)
        tokens = torch.stack([means[0] + net.task_embedding[self.mode], means[1]])[None]
        for layer in net.transformer_layes:  # as diffusers spells it
            tokens = layer(tokens)
        more = net.spatial_ch_projs(tokens[:, 0]).view(1, -1, 1, 1)
        return Mapped(Added(latents, condition.field), lambda rows: rows + more)


@dataclass(frozen=True, slots=True)
class WholeOrBandedControlNet:
    """The whole image at once until memory runs out, then in bands, from the same step."""

    whole: PlainControlNet
    banded: BandedControlNet
    first: WholeFirst

    @staticmethod
    def of(
        controlnet: Any, mode: int | None, band_rows: int, store: ActivationStore, weights: Weights
    ) -> WholeOrBandedControlNet:
        """`mode`, `band_rows` (of the bands, if they are needed): see banded()."""
        return WholeOrBandedControlNet(
            PlainControlNet(controlnet) if mode is None else PlainUnion(controlnet, mode),
            banded(controlnet, mode, band_rows, store, weights),
            WholeFirst(store, "a ControlNet"),
        )

    def condition(self, image: Field) -> Tensor | Held:
        """See PlainControlNet; in bands if memory ran out here already."""
        whole: Callable[[], Tensor | Held] = partial(self.whole.condition, image)
        return self.first.run(whole, partial(self.banded.condition, image))

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: Tensor | Held,
        scale: float,
        dilation: int = 1,
    ) -> Residuals:
        """See BandedControlNet."""
        arguments = (sample, timestep, text, added)
        if not isinstance(condition, Tensor):
            return self.banded(*arguments, condition, scale, dilation)
        return self.first.run(
            lambda: self.whole(*arguments, condition, scale, dilation),
            lambda: self.banded(*arguments, _held(condition), scale, dilation),
        )


def banded(
    controlnet: Any, mode: int | None, band_rows: int, store: ActivationStore, weights: Weights
) -> BandedControlNet:
    """A ControlNet in bands. mode: that of a ControlNet-union, None for others."""
    if mode is None:
        return BandedControlNet(controlnet, band_rows, store, weights)
    return BandedUnion(controlnet, band_rows, store, weights, mode)


def _held(image: Tensor) -> Held:
    """A tensor (1, channels, height, width) with its moments."""
    statistics = Statistics(image.shape[2])
    statistics.add(image)
    return Held(Parked.of(image), statistics.moments())


def _pooled(x: Held, conv: Any, scale: float) -> Field:
    """The mean of _scaled over the image, which the 1x1 convolution makes of the mean."""
    mean = x.moments.mean.view(1, -1, 1, 1).to(conv.weight.dtype)
    return Spread(conv(mean) * scale, Size(x.field.width, x.field.height))


def _scaled(x: Held, conv: Any, scale: float) -> Field:
    return Mapped(x.field, lambda rows: conv(rows) * scale)
