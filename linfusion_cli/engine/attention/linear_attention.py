"""Generalised linear attention: normalised and non-causal (LinFusion, arXiv 2409.02097).

    out_i = phi(Q_i) S / (phi(Q_i) m + eps),   S = sum_j phi(K_j) V_j^T / L,   m = sum_j phi(K_j) / L

over L tokens, with phi(u) = elu(u) + 1, Q = W_q (x + f_q(x)) and K = W_k (x + f_k(x)). S and m are sums over tokens, so
an image can be read in parts: memory does not grow with its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.memory.dtypes import for_sums

EPSILON = 1e-4  # eps of the official module
BLOCK_TOKENS = 4096  # tokens are summed in blocks of this size, in order, whatever the size of the image


def feature_map(x: Tensor) -> Tensor:
    """phi(u) = elu(u) + 1, elementwise, positive, of the shape of u (arXiv 2006.16236).

    In half precision it is computed as exp(min(u, 0)) + max(u, 0), which is the same: the difference to 1 of a small
    elu(u) is rounded away there (in bfloat16 16 % of phi for u from -6 to -4).
    """
    if x.dtype.itemsize < torch.float32.itemsize:
        return x.clamp(max=0).exp() + F.relu(x)
    return F.elu(x) + 1


@dataclass(slots=True)
class AttentionState:
    """The sums over all tokens that have been added so far.

    key_value: (batch, heads, dim, dim), the sum of phi(K_j) V_j^T, in the dtype of for_sums
    key:       (batch, heads, dim), the sum of phi(K_j), likewise
    tokens:    the number L of tokens
    """

    key_value: Tensor
    key: Tensor
    tokens: int = 0

    @staticmethod
    def empty(heads: int, like: Tensor) -> AttentionState:
        """The state of no tokens, for tokens like (batch, tokens, channels)."""
        batch, _, channels = like.shape
        dim = channels // heads
        key_value = torch.zeros(batch, heads, dim, dim, dtype=for_sums(like), device=like.device)
        return AttentionState(key_value, key_value.new_zeros(batch, heads, dim))

    def add(self, key: Tensor, value: Tensor, blocks: int = 1) -> None:
        """Adds tokens in `blocks` equal blocks; if memory runs out, nothing is added.

        key: phi(K), and value, both (batch, heads, tokens, dim).
        A block is summed in float32 at least, even under autocast: half precision flushes small values to 0 at millions
        of tokens. Blocks are added in the dtype of for_sums, so the result does not depend on what arrives together.
        """
        exact = torch.promote_types(torch.float32, key.dtype)
        split_key, split_value = (x.to(exact).unflatten(2, (blocks, -1)) for x in (key, value))
        with torch.autocast(key.device.type, enabled=False):
            key_value = (split_key.transpose(-1, -2) @ split_value).sum(2, dtype=self.key_value.dtype)
        key_sum = split_key.sum(3).sum(2, dtype=self.key.dtype)
        self.key_value += key_value  # only now, where memory can't run out any more
        self.key += key_sum
        self.tokens += key.shape[2]

    def read(self, query: Tensor) -> Tensor:
        """The attention's output for phi(Q), (batch, heads, tokens, dim), of the same shape and dtype."""
        exact = query.to(torch.promote_types(torch.float32, query.dtype))
        with torch.autocast(query.device.type, enabled=False):
            # arXiv 2409.02097: sums divided by L, then normalised
            attended = exact @ (self.key_value / self.tokens).to(exact.dtype)
            normaliser = exact @ (self.key / self.tokens).to(exact.dtype).unsqueeze(-1) + EPSILON
        return (attended / normaliser).to(query.dtype)


class Kernels(Protocol):
    """Other code for AttentionState.add() and read(), which takes tokens as the projections leave them.

    key, value, query: (batch, tokens, heads * dim), without phi
    """

    def add_keys(self, state: AttentionState, key: Tensor, value: Tensor, blocks: int) -> None:
        """Adds tokens in `blocks` equal blocks."""
        ...

    def read(self, state: AttentionState, query: Tensor) -> Tensor:
        """The attention's output, of the shape and dtype of the query."""
        ...


def nonlinearity(dim: int, mid_dim: int | None) -> nn.Module:
    """f of the paper, (..., dim) to (..., dim). mid_dim: its inner width; None means `dim`, -1 an identity."""
    if mid_dim == -1:
        return nn.Identity()
    mid = mid_dim or dim
    return nn.Sequential(nn.Linear(dim, mid), nn.LayerNorm(mid), nn.LeakyReLU(inplace=True), nn.Linear(mid, dim))


class LinearAttention(nn.Module):
    """Replaces a self-attention of a diffusers transformer block; the parameter names are the official ones.

    Beyond input and output it takes the memory of BLOCK_TOKENS tokens: it sums the keys, then reads, block by block.
    kernels: None for the plain operators
    """

    kernels: Kernels | None = None

    def __init__(self, dim: int, heads: int, mid_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(dim, dim, bias=False)
        self.to_v = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim), nn.Dropout(0.0)])
        self.to_q_ = nonlinearity(dim, mid_dim)
        self.to_k_ = nonlinearity(dim, mid_dim)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states (batch, tokens, channels) to the same shape.

        Raises ValueError for cross-attention or a mask, which linear attention can't replace.
        """
        refuse_other_attention(hidden_states, encoder_hidden_states, attention_mask)
        state = self.accumulate(hidden_states)
        parts = [self.attend(block, state) for block in _blocks(hidden_states)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def accumulate(self, hidden_states: Tensor, state: AttentionState | None = None) -> AttentionState:
        """Adds the tokens of hidden_states (batch, tokens, channels) to the state (a new one if none is given)."""
        state = state or AttentionState.empty(self.heads, hidden_states)
        for block in _blocks(hidden_states):
            self.add(state, block)
        return state

    def add(self, state: AttentionState, hidden_states: Tensor, blocks: int = 1) -> None:
        """Adds tokens (batch, tokens, channels) to a state in `blocks` equal blocks."""
        if self.kernels is None:
            state.add(*self.key_value(hidden_states), blocks)
        else:
            self.kernels.add_keys(state, self._keys(hidden_states), self.to_v(hidden_states), blocks)

    def key_value(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """phi(K) and V of some tokens (batch, tokens, channels), each (batch, heads, tokens, dim)."""
        return feature_map(self._split(self._keys(hidden_states))), self._split(self.to_v(hidden_states))

    def attend(self, hidden_states: Tensor, state: AttentionState) -> Tensor:
        """The layer's output for some tokens (batch, tokens, channels), given the state of all tokens."""
        if self.kernels is None:
            return self._project(state.read(self._query(hidden_states)))
        return self._project(self._split(self.kernels.read(state, self._queries(hidden_states))))

    def _query(self, hidden_states: Tensor) -> Tensor:
        """phi(Q) of some tokens (batch, tokens, channels), (batch, heads, tokens, dim)."""
        return feature_map(self._split(self._queries(hidden_states)))

    def _queries(self, hidden_states: Tensor) -> Tensor:
        """Q = W_q (x + f_q(x)) of some tokens, (batch, tokens, channels)."""
        query: Tensor = self.to_q(hidden_states + self.to_q_(hidden_states))
        return query

    def _keys(self, hidden_states: Tensor) -> Tensor:
        """K = W_k (x + f_k(x)) of some tokens, (batch, tokens, channels)."""
        key: Tensor = self.to_k(hidden_states + self.to_k_(hidden_states))
        return key

    def _project(self, attended: Tensor) -> Tensor:
        """(batch, heads, tokens, dim) through the output projection to (batch, tokens, channels)."""
        projected: Tensor = self.to_out[1](self.to_out[0](attended.transpose(1, 2).flatten(2)))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.heads)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads * dim) to (batch, heads, tokens, dim)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def refuse_other_attention(
    hidden_states: Tensor, encoder_hidden_states: Tensor | None, attention_mask: Tensor | None
) -> None:
    """Raises ValueError for cross-attention or a mask, which no mixer of tokens here can replace."""
    if attention_mask is not None or (encoder_hidden_states is not None and encoder_hidden_states is not hidden_states):
        raise ValueError("linear attention replaces self-attention without a mask only")


def _blocks(hidden_states: Tensor) -> Iterator[Tensor]:
    return iter(hidden_states.split(BLOCK_TOKENS, dim=1))
