"""A ControlNet in bands, exactly: the UNet's down blocks and a 1x1 convolution for each skip (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.controlnet.model import PlainControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import check, layers_of, way_down
from linfusion_cli.engine.streaming.convolutions import Convolution
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.oom_fallback import WholeFirst
from linfusion_cli.engine.streaming.residuals import Residuals, SampleResiduals
from linfusion_cli.engine.streaming.row_source import Added, Field, Held, Mapped, Parked, park
from linfusion_cli.engine.streaming.unet_layers import Layers


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
    def condition(self, image: Field) -> Field:
        """The network's embedding of a control image (3 channels in [0, 1], output size in px); one for all steps."""
        embedding = self.controlnet.controlnet_cond_embedding
        entering = Mapped(image, lambda rows: rows.to(self.store.device, self.controlnet.dtype))
        x: Field = Mapped(Convolution(entering, embedding.conv_in, 1), F.silu)
        for conv in embedding.blocks:
            x = Mapped(Convolution(x, conv, 1), F.silu)
        return park(Convolution(x, embedding.conv_out, 1), self.band_rows, self.store, None, lambda _: None).field

    @torch.inference_mode()
    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: Field,
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

    def _sample(self, sample: Tensor, condition: Field, layers: Layers, scale: float) -> SampleResiduals:
        entering = Added(layers.convolution(Parked.of(sample), self.controlnet.conv_in), condition)
        *skips, middle = way_down(self.controlnet, layers, entering, ())
        down = tuple(
            _scaled(skip, conv, scale) for skip, conv in zip(skips, self.controlnet.controlnet_down_blocks, strict=True)
        )
        return SampleResiduals(down, (_scaled(middle, self.controlnet.controlnet_mid_block, scale),))


@dataclass(frozen=True, slots=True)
class WholeOrBandedControlNet:
    """The whole image at once until memory runs out, then in bands, from the same step."""

    whole: PlainControlNet
    banded: BandedControlNet
    first: WholeFirst

    @staticmethod
    def of(controlnet: Any, band_rows: int, store: ActivationStore, weights: Weights) -> WholeOrBandedControlNet:
        """`band_rows`: of the bands, if they are needed."""
        return WholeOrBandedControlNet(
            PlainControlNet(controlnet),
            BandedControlNet(controlnet, band_rows, store, weights),
            WholeFirst(store, "a ControlNet"),
        )

    def condition(self, image: Field) -> Tensor | Field:
        """See PlainControlNet; a field if memory ran out here already."""
        whole: Callable[[], Tensor | Field] = partial(self.whole.condition, image)
        return self.first.run(whole, partial(self.banded.condition, image))

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: Tensor | Field,
        scale: float,
        dilation: int = 1,
    ) -> Residuals:
        """See BandedControlNet."""
        arguments = (sample, timestep, text, added)
        if not isinstance(condition, Tensor):
            return self.banded(*arguments, condition, scale, dilation)
        return self.first.run(
            lambda: self.whole(*arguments, condition, scale, dilation),
            lambda: self.banded(*arguments, Parked.of(condition), scale, dilation),
        )


def _scaled(x: Held, conv: Any, scale: float) -> Field:
    return Mapped(x.field, lambda rows: conv(rows) * scale)
