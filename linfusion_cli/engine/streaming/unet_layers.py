"""The layers of a UNet, band by band, exactly: each is per token, local, or needs a small sum over the image (design 4).

Between two sweeps over the image only sums have to be complete: GroupNorm's statistics and the attention's state.
A ResNet block is two sweeps, a transformer block two; memory beyond the parked activations is that of one band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.attention.streamed_attention import Seen, seen_by
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.convolutions import Convolution
from linfusion_cli.engine.streaming.row_source import Added, Field, Held, Mapped, Parked, normalised, park, sweep

Text = Tensor | tuple[Tensor, list[Tensor]]  # (1, tokens, dim), and with an IP-Adapter its image tokens


@dataclass(frozen=True, slots=True)
class Layers:
    """One sample's pass through a diffusers UNet or ControlNet: its modules are called, their sweeps are ours.

    band_rows: a band's height in rows of each level; dilation multiplies every convolution's (arXiv 2310.07702)
    embedding: (1, dim), of the timestep; text: what the cross-attention reads
    """

    band_rows: int
    dilation: int
    embedding: Tensor
    text: Text
    store: ActivationStore
    weights: Weights

    def resnet(self, x: Held, resnet: Any) -> Held:
        """conv2(silu(norm2(conv1(silu(norm1(x))) + time))) + shortcut(x); the sum overwrites the hidden half in place."""
        with self.weights.lent(resnet):
            time = resnet.time_emb_proj(F.silu(self.embedding))[:, :, None, None]
            first = self.convolution(normalised(x, resnet.norm1, silu=True), resnet.conv1)
            hidden = self.park(Mapped(first, lambda rows: rows + time))
            branch = self.convolution(normalised(hidden, resnet.norm2, silu=True), resnet.conv2)
            skip = x.field if resnet.conv_shortcut is None else self.convolution(x.field, resnet.conv_shortcut)
            return self.park(Added(branch, skip), hidden.field if self.dilation <= self.band_rows else None)

    def transformer(self, x: Held, transformer: Any) -> Held:
        """One sweep adds up the first block's attention; each further sweep applies a block and adds up the next one's.

        The result overwrites x, which nobody else holds yet.
        """
        blocks = list(transformer.transformer_blocks)
        enter, leave = (
            _projection(module, linear=transformer.use_linear_projection)
            for module in (transformer.proj_in, transformer.proj_out)
        )
        with self.weights.lent(transformer.norm, transformer.proj_in, transformer.proj_out):
            tokens: Field = Mapped(normalised(x, transformer.norm, silu=False), enter)
            with self.weights.lent(blocks[0]):
                seen = self._seen(tokens, blocks[0], None)
            for block, following in pairwise(blocks):
                with self.weights.lent(block, following):
                    parked = (
                        tokens if isinstance(tokens, Parked) else Parked.empty(tokens, self.embedding.dtype, self.store)
                    )
                    seen, tokens = self._seen(Mapped(tokens, self._function(block, seen)), following, parked), parked
            with self.weights.lent(blocks[-1]):
                done = Mapped(tokens, self._function(blocks[-1], seen))
                return self.park(Added(Mapped(done, leave), x.field), x.field)

    def convolution(self, source: Field, conv: Any) -> Convolution:
        return Convolution(source, conv, self.dilation)

    def park(self, source: Field, into: Field | None = None) -> Held:
        """Computes a field and stores it, in place of `into` if that is parked."""
        return park(source, self.band_rows, self.store, into if isinstance(into, Parked) else None, lambda _: None)

    def _seen(self, tokens: Field, block: Any, parked: Parked | None) -> Seen:
        """What the block's self-attention knows of all tokens, which are also stored if there is where."""
        seen = seen_by(block.attn1, self.embedding.new_empty(1, 0, tokens.channels), tokens.height * tokens.width)
        for band, rows in sweep(
            tokens, self.band_rows, self.store, lambda band, rows: seen.add(block.norm1(_tokens(rows)), band.height)
        ):
            if parked is not None:
                parked.write(band, rows)
        return seen

    def _function(self, block: Any, seen: Seen) -> Callable[[Tensor], Tensor]:
        """A transformer block on some rows, given what its attention has seen."""

        def function(rows: Tensor) -> Tensor:
            tokens = _tokens(rows)
            tokens = tokens + seen.read(block.norm1(tokens))
            tokens = tokens + block.attn2(block.norm2(tokens), encoder_hidden_states=self.text)
            return _rows(tokens + block.ff(block.norm3(tokens)), rows)

        return function


def pairs(block: Any) -> list[tuple[Any, Any]]:
    """A down or up block's ResNets, each with its transformer or None."""
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
