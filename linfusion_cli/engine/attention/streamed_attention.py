"""Self-attention over tokens that arrive in parts: linear attention keeps sums of them, softmax keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.attention.linear_attention import AttentionState, LinearAttention, split_heads
from linfusion_cli.engine.memory.peers import Peers


class Seen(Protocol):
    """What one self-attention keeps of an image's tokens."""

    def add(self, tokens: Tensor, rows: int) -> None:
        """Adds the next tokens (1, tokens, channels), of `rows` rows. If memory runs out, nothing is added."""
        ...

    def finish(self, peers: Peers, height: int, width: int) -> None:
        """All tokens of this process's rows are added: takes in its peers'. height, width: of the image, in tokens."""
        ...

    def read(self, tokens: Tensor) -> Tensor:
        """The attention's output for some tokens, (1, tokens, channels), when all have been added."""
        ...


def seen_by(attention: Any, like: Tensor, tokens: int) -> Seen:
    """An empty state of a LinearAttention or a diffusers Attention, for `tokens` tokens of this process.

    like: (1, any, channels), a tensor of the tokens' device and dtype
    """
    if isinstance(attention, LinearAttention):
        return _LinearSeen(attention, AttentionState.empty(attention.heads, like))
    return _SoftmaxSeen(attention, like, tokens)


@dataclass(frozen=True, slots=True)
class _LinearSeen:
    """What linear attention keeps of the tokens that it has seen: two sums."""

    attention: LinearAttention
    state: AttentionState

    def add(self, tokens: Tensor, rows: int) -> None:
        self.attention.add(self.state, tokens, rows)

    def finish(self, peers: Peers, height: int, width: int) -> None:
        self.state.key_value, self.state.key = peers.summed(self.state.key_value, self.state.key)
        self.state.tokens = height * width

    def read(self, tokens: Tensor) -> Tensor:
        return self.attention.attend(tokens, self.state)


@dataclass(slots=True)
class _SoftmaxSeen:
    """Keys and values of all tokens, (2, heads, tokens, dim).

    They take twice the memory of the activations, and reading takes time with the square of the image's area.
    """

    attention: Any
    like: Tensor
    tokens: int
    filled: int = 0
    key_value: Tensor | None = None

    def add(self, tokens: Tensor, rows: int) -> None:
        key, value = self._split(self.attention.to_k(tokens)), self._split(self.attention.to_v(tokens))
        if self.key_value is None:
            self.key_value = key.new_empty(2, key.shape[1], self.tokens, key.shape[3])
        span = slice(self.filled, self.filled + tokens.shape[1])
        self.key_value[0, :, span], self.key_value[1, :, span] = key[0], value[0]
        self.filled = span.stop

    def finish(self, peers: Peers, height: int, width: int) -> None:
        if self.key_value is None:
            self.add(self.like, 0)
        assert self.key_value is not None
        self.key_value = peers.gathered(self.key_value, height, axis=2)

    def read(self, tokens: Tensor) -> Tensor:
        assert self.key_value is not None
        key, value = self.key_value.unsqueeze(1)
        query = self._split(self.attention.to_q(tokens))
        out = F.scaled_dot_product_attention(query, key, value, scale=self.attention.scale)
        projected: Tensor = self.attention.to_out[1](self.attention.to_out[0](out.transpose(1, 2).flatten(2)))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.attention.heads)
