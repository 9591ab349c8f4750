"""The autoencoder in exact sweeps over bands of rows: no tiles, no seams (docs/design.md, section 5).

Plain decoding holds several full-size activations at once. Here layers are computed band by band, from activations that
wait in a store, or are computed again where none wait. GroupNorm gets the statistics of the whole image, which a tile
can't know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.allocator import release_freed
from linfusion_cli.engine.streaming import fused_softmax
from linfusion_cli.engine.streaming.convolutions import Convolved, UpsampledConvolved
from linfusion_cli.engine.streaming.row_source import (
    Added,
    Field,
    Held,
    Mapped,
    Parked,
    collect,
    measure,
    normalised,
    park,
    sweep,
)
from linfusion_cli.engine.streaming.vae_attention import Attended
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import Keep

OnRows = Callable[[int], None]  # gets how many more rows of a layer are done


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs the layers of a diffusers AutoencoderKL in sweeps.

    band_px: the height of a band in rows of each layer's output
    keep:    for every level, full resolution first, what waits between its sweeps: "all" activations, "sums" (the
             outputs of ResNet blocks; what is inside them is computed again, for half the memory), or "nothing" (every
             sweep starts at the nearest deeper level that keeps something; the deepest always does)
    window:  how many latents the attention of the middle block sees, if there are more
    on_rows: gets the height of each band of each layer, see swept_rows
    """

    vae: Any
    band_px: int
    keep: tuple[Keep, ...]
    window: int
    store: ActivationStore
    on_rows: OnRows

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Iterator[tuple[Band, Tensor]]:
        """Yields the image in bands from the top: (1, 3, rows, width), float32, about [-1, 1].

        latents: (1, channels, height, width), already divided by the scaling factor.
        """
        decoder, deepest = self.vae.decoder, len(self.keep) - 1
        source: Field = Parked.of(latents.to(self.store.device, self.vae.dtype))
        if self.vae.post_quant_conv is not None:
            source = Convolved.same(source, self.vae.post_quant_conv)
        x = self._inner(Convolved.same(source, decoder.conv_in), deepest)
        for layer in self._middle(decoder.mid_block):
            x = layer(x)
        for level, block in zip(range(deepest, -1, -1), decoder.up_blocks, strict=True):
            release_freed()
            for resnet in block.resnets:
                x = self._resnet(x, resnet, level)
            for upsampler in block.upsamplers or ():
                x = self._inner(UpsampledConvolved.of(x.field, upsampler.conv), level - 1)
        out = Convolved.same(normalised(x, decoder.conv_norm_out, silu=True), decoder.conv_out)
        for band, rows in sweep(out, self.band_px, self.store):
            yield band, rows.float()
            self.on_rows(band.height)

    @torch.inference_mode()
    def encode(self, image: Field) -> Tensor:
        """The mean of the latents' distribution, float32 (1, channels, height / 8, width / 8).

        image: (1, 3, height, width), about [-1, 1]
        """
        encoder, dtype = self.vae.encoder, self.vae.dtype
        numbers = Mapped(image, lambda rows: rows.to(dtype))  # an image between two stages is float32
        x = self._inner(Convolved.same(numbers, encoder.conv_in), 0)
        for level, block in enumerate(encoder.down_blocks):
            release_freed()
            for resnet in block.resnets:
                x = self._resnet(x, resnet, level)
            for downsampler in block.downsamplers or ():
                x = self._inner(Convolved(x.field, downsampler.conv, (0, 1, 0, 1)), level + 1)
        for layer in self._middle(encoder.mid_block):
            x = layer(x)
        moments: Field = Convolved.same(normalised(x, encoder.conv_norm_out, silu=True), encoder.conv_out)
        if self.vae.quant_conv is not None:
            moments = Convolved.same(moments, self.vae.quant_conv)
        whole = collect(moments, self.band_px, self.store, dtype)
        return whole.chunk(2, dim=1)[0].float()

    def _inner(self, source: Field, level: int) -> Held:
        """The input of a ResNet block that comes from another layer, or the field inside it: cheap to compute again."""
        if self.keep[level] == "all":
            return park(source, self.band_px, self.store, None, self.on_rows)
        return measure(source, self.band_px, self.store, self.on_rows)

    def _sum(self, source: Field, level: int, *unneeded: Field) -> Held:
        """The output of a ResNet block; it overwrites one of `unneeded` with as many channels."""
        if self.keep[level] == "nothing":
            return measure(source, self.band_px, self.store, self.on_rows)
        fits = (field for field in unneeded if isinstance(field, Parked) and field.channels == source.channels)
        return park(source, self.band_px, self.store, next(fits, None), self.on_rows)

    def _resnet(self, x: Held, resnet: Any, level: int) -> Held:
        """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), two sweeps."""
        hidden = self._inner(Convolved.same(normalised(x, resnet.norm1, silu=True), resnet.conv1), level)
        branch = Convolved.same(normalised(hidden, resnet.norm2, silu=True), resnet.conv2)
        skip = x.field if resnet.conv_shortcut is None else Convolved.same(x.field, resnet.conv_shortcut)
        return self._sum(Added(branch, skip), level, hidden.field, x.field)

    def _middle(self, block: Any) -> Iterator[Callable[[Held], Held]]:
        """The layers of the middle block, one by one, so that the caller frees each input as soon as it can."""
        deepest = len(self.keep) - 1
        yield partial(self._resnet, resnet=block.resnets[0], level=deepest)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                yield partial(self._attention, attention=attention)
            yield partial(self._resnet, resnet=resnet, level=deepest)

    def _attention(self, x: Held, attention: Any) -> Held:
        """The mid-block's softmax attention, over all latents or a window of them."""
        fused = self.store.fused and not fused_softmax.fault_of(self.store.device, self.vae.dtype, x.field.channels)
        attended = Attended(normalised(x, attention.group_norm, silu=False), attention, self.window, fused)
        return park(Added(attended, x.field), self.band_px, self.store, None, self.on_rows)


def swept_rows(vae: Any, height_px: int, *, encode: bool, own: Callable[[int], int] = lambda height: height) -> int:
    """How many rows, over all layers, on_rows counts in a decode (or encode) of an image of that height.

    own: how many rows this process computes of a layer of a height
    """
    side = vae.encoder if encode else vae.decoder
    blocks = side.down_blocks if encode else side.up_blocks
    smallest = height_px >> (len(blocks) - 1)
    height: int = height_px if encode else smallest
    rows = own(height) + _middle_sweeps(side.mid_block) * own(smallest)
    for block in blocks:
        rows += 2 * len(block.resnets) * own(height)
        if getattr(block, "downsamplers", None):
            height //= 2
            rows += own(height)
        if getattr(block, "upsamplers", None):
            height *= 2
            rows += own(height)
    return rows if encode else rows + own(height)


def _middle_sweeps(block: Any) -> int:
    return 2 * len(block.resnets) + sum(attention is not None for attention in block.attentions)
