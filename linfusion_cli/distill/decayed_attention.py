"""Self-attention by a decaying state: the mixers that the paper compares with (arXiv 2409.02097, section 3.2).

All share queries, keys, values, output and f with LinearAttention. They differ in how tokens are forgotten (Mamba2,
GLA, RWKV6), in direction, and in whether the sums are normalised.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from linfusion_cli.distill.decayed_scan import decayed_scan
from linfusion_cli.distill.decays import GlaDecay, Rwkv6Decay, SsdDecay
from linfusion_cli.engine.attention.linear_attention import (
    EPSILON,
    LinearAttention,
    feature_map,
    refuse_other_attention,
)

DECAYS = {"ssd": SsdDecay, "gla": GlaDecay, "rwkv6": Rwkv6Decay}
FORWARD, BACKWARD = "from_first", "from_last"


class DecayedAttention(LinearAttention):
    """A decaying state over the tokens in raster order, (batch, tokens, channels) to the same shape.

    decay:         "ssd", "gla" or "rwkv6"
    bidirectional: a second scan from the last token back, with a decay of its own; the token itself counts once
    normalised:    phi(u) = elu(u) + 1, and the sum of weights divides the sum of values, as in LinFusion; else queries
                   and keys as they are, and RMSNorm per head
    """

    def __init__(
        self, dim: int, heads: int, mid_dim: int | None = None, *, decay: str, bidirectional: bool, normalised: bool
    ) -> None:
        super().__init__(dim, heads, mid_dim)
        directions = (FORWARD, BACKWARD) if bidirectional else (FORWARD,)
        self.decays = nn.ModuleDict({name: DECAYS[decay](dim, heads) for name in directions})
        self.norm = None if normalised else nn.RMSNorm(dim // heads, eps=1e-5)

    def start(self, depth: float) -> None:
        """Sets first values that depend on the layer's depth, 0 to 1."""
        for decay in self.decays.values():
            if isinstance(decay, Rwkv6Decay):
                decay.start(depth)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states (batch, tokens, channels) to the same shape.

        Raises ValueError for cross-attention or a mask.
        """
        refuse_other_attention(hidden_states, encoder_hidden_states, attention_mask)
        query = self._split(self.to_q(hidden_states + self.to_q_(hidden_states)))
        key = self._split(self.to_k(hidden_states + self.to_k_(hidden_states)))
        value = self._split(self.to_v(hidden_states))
        if self.norm is not None:
            scanned = self._scanned(hidden_states, query * query.shape[-1] ** -0.5, key, value)
            return self._project(self.norm(scanned + self._skipped(value)))
        # the weights are summed as the values of one more channel, which are all 1
        counted = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)
        scanned = self._scanned(hidden_states, feature_map(query), feature_map(key), counted)
        return self._project(scanned[..., :-1] / (scanned[..., -1:] + EPSILON))

    def _scanned(self, hidden_states: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The scan, or both less the token itself, which each of them has read."""
        forward = self.decays[FORWARD]
        bonus = self._bonus(forward)
        scanned = decayed_scan(query, key, value, forward(hidden_states), bonus)
        if BACKWARD not in self.decays:
            return scanned
        decay = self.decays[BACKWARD](hidden_states.flip(1))
        backward = decayed_scan(query.flip(2), key.flip(2), value.flip(2), decay, bonus).flip(2)
        own = (query * key if bonus is None else query * bonus.unsqueeze(1) * key).sum(-1, keepdim=True) * value
        return scanned + backward - own

    def _bonus(self, decay: nn.Module) -> Tensor | None:
        """RWKV6's u, (heads, dim); exp(u) where weights are normalised and stay positive (RWKV4, 2305.13048)."""
        if not isinstance(decay, Rwkv6Decay):
            return None
        bonus = decay.bonus if self.norm is not None else decay.bonus.exp()
        return bonus.view(self.heads, -1)

    def _skipped(self, value: Tensor) -> Tensor:
        """Mamba2's D x_t: what a token reads of its own value, 0 for the others."""
        decay = self.decays[FORWARD]
        return decay.skip.view(-1, 1, 1) * value if isinstance(decay, SsdDecay) else torch.zeros_like(value)
