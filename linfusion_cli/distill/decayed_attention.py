"""Self-attention by a decaying state: the token mixers that the paper compares with (arXiv 2409.02097).

All share the projections of queries, keys, values and output and the learned nonlinearities with LinearAttention. They
differ in the decay (Mamba2, GLA, RWKV6), in the direction of the scan, and in whether the sums are normalised.
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
    """Attends through a decaying state over the tokens in raster order: (batch, tokens, dim) to the same shape.

    dim:           channels, a multiple of heads
    mid_dim:       inner width of the learned nonlinearities; None = as in LinearAttention
    decay:         "ssd" (Mamba2), "gla" or "rwkv6"
    bidirectional: adds a second scan from the last token to the first, with a decay of its own; the token itself counts
                   once
    normalised:    as in LinFusion, phi(u) = elu(u) + 1 and the sum of scores divides the weighted sum of values;
                   otherwise queries and keys have no feature map, and RMSNorm per head follows (arXiv 1910.07467)
    """

    def __init__(
        self, dim: int, heads: int, mid_dim: int | None = None, *, decay: str, bidirectional: bool, normalised: bool
    ) -> None:
        super().__init__(dim, heads, mid_dim)
        directions = (FORWARD, BACKWARD) if bidirectional else (FORWARD,)
        self.decays = nn.ModuleDict({name: DECAYS[decay](dim, heads) for name in directions})
        self.norm = None if normalised else nn.RMSNorm(dim // heads, eps=1e-5)

    def start(self, depth: float) -> None:
        """Sets the initial values that depend on the layer's depth, 0 (first layer) to 1 (last): those of RWKV6."""
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
        """hidden_states (batch, tokens, dim) to the same shape.

        Raises ValueError for cross-attention or a mask.
        """
        refuse_other_attention(hidden_states, encoder_hidden_states, attention_mask)
        query, key = (self._split(made(hidden_states)) for made in (self._queries, self._keys))
        value = self._split(self.to_v(hidden_states))
        if self.norm is not None:
            scanned = self._scanned(hidden_states, query * query.shape[-1] ** -0.5, key, value)
            return self._project(self.norm(scanned + self._skipped(value)))
        # a further channel of ones among the values becomes the sum of the scores, so one scan gives both sums
        counted = torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)
        scanned = self._scanned(hidden_states, feature_map(query), feature_map(key), counted)
        return self._project(scanned[..., :-1] / (scanned[..., -1:] + EPSILON))

    def _scanned(self, hidden_states: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One scan; or the sum of both less the token's own term, which both scans contain.

        query, key (batch, heads, tokens, dim), value (batch, heads, tokens, width); the result has the shape of value.
        """
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
        """RWKV6's u, (heads, dim); exp(u), above 0, where scores are normalised (RWKV4, arXiv 2305.13048)."""
        if not isinstance(decay, Rwkv6Decay):
            return None
        bonus = decay.bonus if self.norm is not None else decay.bonus.exp()
        return bonus.view(self.heads, -1)

    def _skipped(self, value: Tensor) -> Tensor:
        """Mamba2's D x_t (arXiv 2405.21060), a token's own value by a learned factor per head; 0 for GLA and RWKV6."""
        decay = self.decays[FORWARD]
        return decay.skip.view(-1, 1, 1) * value if isinstance(decay, SsdDecay) else torch.zeros_like(value)
