"""The layers of a UNet, band by band and exact: each is per token, local, or needs a small sum over the image.

Between two sweeps over the image only sums must be complete: GroupNorm's statistics and the attention's state
(docs/design.md, section 4). A ResNet block is two sweeps, a transformer block two. Beyond the parked activations they
take the memory of one band.
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
from linfusion_cli.engine.streaming.fused_layers import feed_forward
from linfusion_cli.engine.streaming.row_source import (
    Added,
    Field,
    Held,
    Mapped,
    Parked,
    normalised,
    park,
    sweep,
    tokens_of,
)
from linfusion_cli.geometry import Band

Text = Tensor | tuple[Tensor, list[Tensor]]  # (1, tokens, dim), and with an IP-Adapter its image tokens


@dataclass(frozen=True, slots=True)
class Layers:
    """Runs the modules of a diffusers UNet or ControlNet in sweeps, for one sample.

    band_rows: a band's height in rows of each level
    dilation:  multiplies that of every convolution (arXiv 2310.07702)
    embedding: (1, dim), of the timestep
    text:      what the cross-attention reads
    """

    band_rows: int
    dilation: int
    embedding: Tensor
    text: Text
    store: ActivationStore
    weights: Weights

    def resnet(self, x: Held, resnet: Any) -> Held:
        """conv2(silu(norm2(conv1(silu(norm1(x))) + time))) + shortcut(x) in two sweeps; the sum overwrites conv1's."""
        with self.weights.lent(resnet):
            time = resnet.time_emb_proj(F.silu(self.embedding))[:, :, None, None]
            first = self.convolution(normalised(x, resnet.norm1, silu=True), resnet.conv1)
            hidden = self.park(Mapped(first, lambda rows: rows + time))
            branch = self.convolution(normalised(hidden, resnet.norm2, silu=True), resnet.conv2)
            skip = x.field if resnet.conv_shortcut is None else self.convolution(x.field, resnet.conv_shortcut)
            return self.park(Added(branch, skip), hidden.field if self.dilation <= self.band_rows else None)

    def transformer(self, x: Held, transformer: Any) -> Held:
        """One sweep sums for the first block's attention; each further one applies a block and sums for the next.

        The result overwrites x, which nothing else reads yet.
        """
        blocks = list(transformer.transformer_blocks)
        linear = transformer.use_linear_projection
        enter, leave = (_projection(module, linear=linear) for module in (transformer.proj_in, transformer.proj_out))
        ends = (transformer.norm, transformer.proj_in, transformer.proj_out)
        with self.weights.lent(*ends), self.weights.lent_in_turn(blocks) as need:
            tokens: Field = Mapped(normalised(x, transformer.norm, silu=False), enter)
            need(0, 0)
            seen = self._seen(tokens, blocks[0], None)
            for number, (block, following) in enumerate(pairwise(blocks)):
                need(number, number + 1)
                after = Mapped(tokens, self._function(block, seen))
                parked = tokens if isinstance(tokens, Parked) else self._empty(tokens)
                seen, tokens = self._seen(after, following, parked), parked
            need(len(blocks) - 1, len(blocks) - 1)
            done = Mapped(tokens, self._function(blocks[-1], seen))
            return self.park(Added(Mapped(done, leave), x.field), x.field)

    def convolution(self, source: Field, conv: Any) -> Convolution:
        return Convolution(source, conv, self.dilation)

    def park(self, source: Field, into: Field | None = None) -> Held:
        """Computes a field and stores it, in place of `into` if that is a parked field."""
        return park(source, self.band_rows, self.store, into if isinstance(into, Parked) else None, lambda _: None)

    def _empty(self, like: Field) -> Parked:
        return Parked.empty(like, self.embedding.dtype, self.store)

    def _seen(self, tokens: Field, block: Any, parked: Parked | None) -> Seen:
        """What the block's self-attention keeps of all tokens; `parked` gets the tokens too."""
        own, peers = self.store.peers.own(tokens.height), self.store.peers
        seen = seen_by(block.attn1, self.embedding.new_empty(1, 0, tokens.channels), own.height * tokens.width)

        def add(band: Band, rows: Tensor) -> None:
            seen.add(block.norm1(tokens_of(rows)), band.height)

        for band, rows in sweep(tokens, self.band_rows, self.store, add):
            if parked is not None:
                parked.write(band, rows)
        seen.finish(peers, tokens.height, tokens.width)
        return seen

    def _function(self, block: Any, seen: Seen) -> Callable[[Tensor], Tensor]:
        """A transformer block as a function of some rows, once its attention has seen all tokens."""

        def function(rows: Tensor) -> Tensor:
            tokens = tokens_of(rows)
            tokens = tokens + seen.read(block.norm1(tokens))
            tokens = tokens + block.attn2(block.norm2(tokens), encoder_hidden_states=self.text)
            return _rows(tokens + feed_forward(block.ff, block.norm3(tokens), fused=self.store.fused), rows)

        return function


def pairs(block: Any) -> list[tuple[Any, Any]]:
    """The ResNets of a down or up block, each with its transformer or None."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))


def _rows(tokens: Tensor, like: Tensor) -> Tensor:
    """(1, tokens, channels) back to rows of the width of `like`."""
    return tokens.view(1, -1, like.shape[3], tokens.shape[2]).permute(0, 3, 1, 2)


def _projection(module: Any, *, linear: bool) -> Callable[[Tensor], Tensor]:
    """A projection in or out of a transformer: a linear layer over tokens, or a 1x1 convolution."""
    return (lambda rows: _rows(module(tokens_of(rows)), rows)) if linear else module
