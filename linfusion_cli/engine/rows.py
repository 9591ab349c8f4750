"""The autoencoder in exact sweeps over bands of rows: no tiles, no seams, statistics of the whole picture.

Plain decoding holds several full-size activations at once; here each layer's input is parked once and every layer is
computed band by band from it. GroupNorm sees the statistics of the whole picture, which a tile can't know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.convolutions import Convolved, UpsampledConvolved
from linfusion_cli.engine.fields import Added, Field, Parked, normalised, park, sweep
from linfusion_cli.engine.statistics import Statistics
from linfusion_cli.geometry import Band

ATTENTION_QUERIES = 4096  # the mid-block attention, where there is one, runs in chunks of this many queries

OnRows = Callable[[int], None]  # told how many rows of some layer are done


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs the layers of a diffusers AutoencoderKL. `band_px` is the height of a band in rows of each layer's output."""

    vae: Any
    band_px: int
    on_rows: OnRows

    @property
    def device(self) -> torch.device:
        weight: Tensor = next(iter(self.vae.parameters()))
        return weight.device

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Iterator[tuple[Band, Tensor]]:
        """Yields the picture in bands from the top: (1, 3, rows, width), float32, about [-1, 1].

        latents: (1, channels, height, width), already divided by the scaling factor.
        """
        decoder = self.vae.decoder
        source: Field = Parked.of(latents.to(self.device, self.vae.dtype))
        if self.vae.post_quant_conv is not None:
            source = Convolved.same(source, self.vae.post_quant_conv)
        x: Field
        x, statistics = self._middle(*self._park(Convolved.same(source, decoder.conv_in)), decoder.mid_block)
        for level, block in enumerate(decoder.up_blocks, 2 - len(decoder.up_blocks)):
            for resnet in block.resnets:
                x, statistics = self._resnet(x, statistics, resnet)
            for upsampler in block.upsamplers or ():
                x = UpsampledConvolved.of(x, upsampler.conv)
                if level == 0:  # full resolution: computed three times rather than held
                    statistics = self._statistics(x)
                else:
                    x, statistics = self._park(x)
        yield from self._float(Convolved.same(normalised(x, decoder.conv_norm_out, statistics, silu=True), decoder.conv_out))

    @torch.inference_mode()
    def encode(self, picture: Field) -> Tensor:
        """The mean of the latents' distribution, (1, channels, height / 8, width / 8), float32; picture about [-1, 1]."""
        encoder = self.vae.encoder
        x, statistics = self._park(Convolved.same(picture, encoder.conv_in))
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x, statistics = self._resnet(x, statistics, resnet)
            for downsampler in block.downsamplers or ():
                x, statistics = self._park(Convolved(x, downsampler.conv, (0, 1, 0, 1)))
        x, statistics = self._middle(x, statistics, encoder.mid_block)
        moments: Field = Convolved.same(normalised(x, encoder.conv_norm_out, statistics, silu=True), encoder.conv_out)
        if self.vae.quant_conv is not None:
            moments = Convolved.same(moments, self.vae.quant_conv)
        whole = torch.cat([rows for _, rows in sweep(moments, self.band_px)], dim=2)
        return whole.chunk(2, dim=1)[0].float()

    def _park(self, source: Field, into: Parked | None = None) -> tuple[Parked, Statistics]:
        return park(source, self.band_px, self.device, into, self.on_rows)

    def _statistics(self, source: Field) -> Statistics:
        """Statistics of a field that is cheaper computed again than held."""
        statistics = Statistics.empty(source.channels, self.device)
        for band, rows in sweep(source, self.band_px):
            statistics.add(rows)
            self.on_rows(band.height)
        return statistics

    def _float(self, source: Field) -> Iterator[tuple[Band, Tensor]]:
        for band, rows in sweep(source, self.band_px):
            yield band, rows.float()
            self.on_rows(band.height)

    def _resnet(self, x: Field, statistics: Statistics, resnet: Any) -> tuple[Parked, Statistics]:
        """x + conv2(silu(norm2(conv1(silu(norm1(x)))))), two sweeps; the sum overwrites what is as wide and needed no more."""
        hidden, hidden_statistics = self._park(Convolved.same(normalised(x, resnet.norm1, statistics, silu=True), resnet.conv1))
        branch = Convolved.same(normalised(hidden, resnet.norm2, hidden_statistics, silu=True), resnet.conv2)
        if resnet.conv_shortcut is not None:
            return self._park(Added(branch, Convolved.same(x, resnet.conv_shortcut)), into=hidden)
        return self._park(Added(branch, x), into=hidden)

    def _middle(self, x: Parked, statistics: Statistics, block: Any) -> tuple[Parked, Statistics]:
        x, statistics = self._resnet(x, statistics, block.resnets[0])
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                x, statistics = self._attention(x, statistics, attention)
            x, statistics = self._resnet(x, statistics, resnet)
        return x, statistics

    def _attention(self, x: Parked, statistics: Statistics, attention: Any) -> tuple[Parked, Statistics]:
        """The mid-block's softmax attention over all latents, exact, in chunks of queries."""
        field = normalised(x, attention.group_norm, statistics, silu=False)
        tokens = torch.cat([rows.flatten(2).transpose(1, 2) for _, rows in sweep(field, self.band_px)], dim=1)
        key, value = (_heads(linear(tokens), attention.heads) for linear in (attention.to_k, attention.to_v))
        total = Statistics.empty(x.channels, self.device)
        rows_per_chunk = max(1, ATTENTION_QUERIES // x.width)
        for top in range(0, x.height, rows_per_chunk):
            band = Band(top, min(top + rows_per_chunk, x.height))
            query = _heads(attention.to_q(tokens[:, band.top * x.width : band.bottom * x.width]), attention.heads)
            out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            rows = attention.to_out[0](out).transpose(1, 2).unflatten(2, (band.height, x.width)) + x.rows(band)
            total.add(rows)
            x.write(band, rows)
        return x, total


def _heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads * dim) to (batch, heads, tokens, dim)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def swept_rows(vae: Any, height_px: int, *, encode: bool) -> int:
    """How many rows, over all layers, a decode (or encode) of a picture of that height tells to `on_rows`."""
    side = vae.encoder if encode else vae.decoder
    blocks = side.down_blocks if encode else side.up_blocks
    smallest = height_px >> (len(blocks) - 1)
    height: int = height_px if encode else smallest
    rows: int = height + 2 * len(side.mid_block.resnets) * smallest
    for block in blocks:
        rows += 2 * len(block.resnets) * height
        if getattr(block, "downsamplers", None):
            height //= 2
            rows += height
        if getattr(block, "upsamplers", None):
            height *= 2
            rows += height
    return rows if encode else rows + height
