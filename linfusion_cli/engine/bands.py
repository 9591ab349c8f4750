"""The UNet band by band, exactly: with linear attention every layer is per token, local, or a small sum (design 4).

Between two sweeps over the picture only sums have to be complete: GroupNorm's statistics and the attention's state.
A ResNet block is two sweeps, a transformer block two; memory beyond the parked activations is that of one band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.attention import AttentionState, LinearAttention
from linfusion_cli.engine.convolutions import Convolution, Doubled
from linfusion_cli.engine.dilation import dilated
from linfusion_cli.engine.fields import Added, Field, Joined, Mapped, Parked, normalised, park, sweep
from linfusion_cli.engine.statistics import Statistics
from linfusion_cli.geometry import Size


@dataclass(frozen=True, slots=True)
class PlainUNet:
    """The diffusers UNet as it is, the whole picture at once."""

    unet: Any

    def __call__(self, sample: Tensor, timestep: Tensor, text: Tensor, added: dict[str, Tensor] | None, dilation: int = 1, residuals: Any = None) -> Tensor:
        """sample (batch, channels, height, width) to the prediction of the same shape; `dilation` dilates every convolution."""
        options = {} if residuals is None else {"down_block_additional_residuals": residuals[0], "mid_block_additional_residual": residuals[1]}
        with dilated(dilation):
            prediction: Tensor = self.unet(sample, timestep, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False, **options)[0]
        return prediction


@dataclass(frozen=True, slots=True)
class Held:
    """A field and the statistics of its channels."""

    field: Field
    statistics: Statistics


@dataclass(frozen=True, slots=True)
class BandedUNet:
    """Called like PlainUNet and equal to it; needs LinFusion mounted. `band_rows` is a band's height in rows of each level."""

    unet: Any
    band_rows: int

    def __call__(self, sample: Tensor, timestep: Tensor, text: Tensor, added: dict[str, Tensor] | None, dilation: int = 1, residuals: Any = None) -> Tensor:
        """See PlainUNet. Samples of a batch run one after the other."""
        embedding = self._embedding(sample, timestep, text, added)
        with dilated(dilation):
            parts = [_Pass(self.unet, self.band_rows, dilation, embedding[i : i + 1], text[i : i + 1]).run(sample[i : i + 1]) for i in range(len(sample))]
        return torch.cat(parts)

    def _embedding(self, sample: Tensor, timestep: Tensor, text: Tensor, added: dict[str, Tensor] | None) -> Tensor:
        """The embedding of time, and for SD-XL of sizes and pooled text, (batch, dim)."""
        embedding: Tensor = self.unet.time_embedding(self.unet.get_time_embed(sample=sample, timestep=timestep))
        more = self.unet.get_aug_embed(emb=embedding, encoder_hidden_states=text, added_cond_kwargs=added or {})
        return embedding if more is None else embedding + more


@dataclass(frozen=True, slots=True)
class _Pass:
    """One sample's way through the UNet; embedding (1, dim), text (1, tokens, dim)."""

    unet: Any
    band_rows: int
    dilation: int
    embedding: Tensor
    text: Tensor

    def run(self, sample: Tensor) -> Tensor:
        x = self._hold(self._convolution(Parked.of(sample), self.unet.conv_in))
        skips = [x]
        for block in self.unet.down_blocks:
            x = self._down(x, block, skips)
        x = self._middle(x, self.unet.mid_block)
        for block in self.unet.up_blocks:
            x = self._up(x, block, skips)
        out = self._convolution(normalised(x.field, self.unet.conv_norm_out, x.statistics, silu=True), self.unet.conv_out)
        return torch.cat([rows for _, rows in sweep(out, self.band_rows)], dim=2)

    def _down(self, x: Held, block: Any, skips: list[Held]) -> Held:
        for resnet, transformer in _layers(block):
            x = self._layer(x, resnet, transformer)
            skips.append(x)
        for downsampler in block.downsamplers or ():
            x = self._hold(self._convolution(x.field, downsampler.conv))
            skips.append(x)
        return x

    def _middle(self, x: Held, block: Any) -> Held:
        x = self._layer(x, block.resnets[0], None)
        for transformer, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            x = self._layer(self._transformer(x, transformer), resnet, None)
        return x

    def _up(self, x: Held, block: Any, skips: list[Held]) -> Held:
        for resnet, transformer in _layers(block):
            skip = skips.pop()
            joined = Held(Joined(x.field, skip.field), x.statistics.joined(skip.statistics))
            x = self._layer(joined, resnet, transformer)
        for upsampler in block.upsamplers or ():
            size = Size(skips[-1].field.width, skips[-1].field.height)
            x = self._hold(self._convolution(Doubled(x.field, size), upsampler.conv))
        return x

    def _layer(self, x: Held, resnet: Any, transformer: Any) -> Held:
        x = self._resnet(x, resnet)
        return x if transformer is None else self._transformer(x, transformer)

    def _resnet(self, x: Held, resnet: Any) -> Held:
        """conv2(silu(norm2(conv1(silu(norm1(x))) + time))) + shortcut(x); the sum overwrites the hidden half in place."""
        time = resnet.time_emb_proj(F.silu(self.embedding))[:, :, None, None]
        first = self._convolution(normalised(x.field, resnet.norm1, x.statistics, silu=True), resnet.conv1)
        hidden, statistics = self._park(Mapped(first, lambda rows: rows + time))
        branch = self._convolution(normalised(hidden, resnet.norm2, statistics, silu=True), resnet.conv2)
        skip = x.field if resnet.conv_shortcut is None else self._convolution(x.field, resnet.conv_shortcut)
        return Held(*self._park(Added(branch, skip), hidden if self.dilation <= self.band_rows else None))

    def _transformer(self, x: Held, transformer: Any) -> Held:
        """One sweep sums the first block's attention state; each further sweep applies a block and sums the next one's.

        The result overwrites x, which nobody else holds yet.
        """
        linear = transformer.use_linear_projection
        tokens: Field = Mapped(normalised(x.field, transformer.norm, x.statistics, silu=False), _projection(transformer.proj_in, linear=linear))
        blocks = list(transformer.transformer_blocks)
        state = self._attention_state(tokens, blocks[0], None)
        for block, following in pairwise(blocks):
            parked = Parked.empty(tokens, self.text.dtype, self.text.device)
            state, tokens = self._attention_state(Mapped(tokens, self._block(block, state)), following, parked), parked
        done = Mapped(tokens, self._block(blocks[-1], state))
        out = Added(Mapped(done, _projection(transformer.proj_out, linear=linear)), x.field)
        return Held(*self._park(out, x.field if isinstance(x.field, Parked) else None))

    def _attention_state(self, tokens: Field, block: Any, parked: Parked | None) -> AttentionState:
        """The state of the block's linear attention over all tokens, which are also stored if there is where."""
        attention: LinearAttention = block.attn1
        state = AttentionState.empty(attention.heads, self.text.new_empty(1, 0, tokens.channels))
        for band, rows in sweep(tokens, self.band_rows):
            attention.accumulate(block.norm1(_tokens(rows)), state)
            if parked is not None:
                parked.write(band, rows)
        return state

    def _block(self, block: Any, state: AttentionState) -> Callable[[Tensor], Tensor]:
        """A transformer block on some rows, given its attention's state."""

        def function(rows: Tensor) -> Tensor:
            tokens = _tokens(rows)
            tokens = tokens + block.attn1.attend(block.norm1(tokens), state)
            tokens = tokens + block.attn2(block.norm2(tokens), encoder_hidden_states=self.text)
            return _rows(tokens + block.ff(block.norm3(tokens)), rows)

        return function

    def _convolution(self, source: Field, conv: Any) -> Convolution:
        return Convolution(source, conv, self.dilation)

    def _hold(self, source: Field) -> Held:
        return Held(*self._park(source))

    def _park(self, source: Field, into: Parked | None = None) -> tuple[Parked, Statistics]:
        return park(source, self.band_rows, self.text.device, into, lambda _: None)


def _layers(block: Any) -> list[tuple[Any, Any]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))


def _tokens(rows: Tensor) -> Tensor:
    """(1, channels, height, width) to (1, tokens, channels)."""
    return rows.permute(0, 2, 3, 1).flatten(1, 2)


def _rows(tokens: Tensor, like: Tensor) -> Tensor:
    """(1, tokens, channels) back to rows of the width of `like`."""
    return tokens.view(1, -1, like.shape[3], tokens.shape[2]).permute(0, 3, 1, 2)


def _projection(module: Any, *, linear: bool) -> Callable[[Tensor], Tensor]:
    """A projection in or out of a transformer: a linear layer over tokens, or a 1x1 convolution."""
    return (lambda rows: _rows(module(_tokens(rows)), rows)) if linear else module
