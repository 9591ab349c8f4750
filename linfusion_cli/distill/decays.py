"""The decays of Mamba2, GLA and RWKV6 as functions of the token, with the initial values of their papers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GLA_RANK, GLA_TEMPERATURE = 16, 16.0
RWKV_RANK = 64
DT_RANGE, A_RANGE = (1e-3, 0.1), (1.0, 16.0)


class SsdDecay(nn.Module):
    """Mamba2: one decay per head, a_t = exp(-dt_t A), dt_t = softplus(x W + b) (arXiv 2405.21060).

    Initially A is uniform in [1, 16], and softplus(b) log-uniform in [0.001, 0.1].
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.step = nn.Linear(dim, heads, bias=False)
        dt = torch.exp(torch.empty(heads).uniform_(math.log(DT_RANGE[0]), math.log(DT_RANGE[1])))
        self.step_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(*A_RANGE).log())
        self.skip = nn.Parameter(torch.ones(heads))  # D: the factor of a token's own value

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, tokens, dim) to log decays log a_t = -dt_t A, (batch, heads, tokens, 1)."""
        steps = F.softplus(self.step(x) + self.step_bias)
        return (-steps * self.log_rate.exp()).transpose(1, 2).unsqueeze(-1)


class GlaDecay(nn.Module):
    """Gated linear attention: one decay per channel, a_t = sigmoid(x W1 W2 + b)^(1/16) (arXiv 2312.06635).

    W1 W2 has rank 16; initially b = 0.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.down = nn.Linear(dim, GLA_RANK, bias=False)
        self.up = nn.Linear(GLA_RANK, dim)
        for layer in (self.down, self.up):
            nn.init.xavier_uniform_(layer.weight, gain=2**-2.5)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, tokens, dim) to log decays (batch, heads, tokens, dim / heads)."""
        return _by_heads(F.logsigmoid(self.up(self.down(x))) / GLA_TEMPERATURE, self.heads)


class Rwkv6Decay(nn.Module):
    """RWKV6: one decay per channel, a_t = exp(-exp(w0 + tanh(x A) B)), and a bonus u, (dim,) (arXiv 2404.05892).

    A B has rank 64. The bonus replaces the decay in the token's own term. depth: of the layer, 0 (first) to 1 (last).
    """

    def __init__(self, dim: int, heads: int, depth: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.base = nn.Parameter(torch.zeros(dim))
        self.down = nn.Parameter(torch.zeros(dim, RWKV_RANK))
        self.up = nn.Parameter(torch.empty(RWKV_RANK, dim).uniform_(-0.01, 0.01))
        self.bonus = nn.Parameter(torch.zeros(dim))
        self.start(depth)

    @torch.no_grad()
    def start(self, depth: float) -> None:
        """Sets w0 and u to the initial values of RWKV-LM's version 6 for a layer at `depth`, 0 to 1."""
        dim = len(self.base)
        channel = torch.arange(dim, dtype=torch.float32)
        ratio = channel / max(1, dim - 1)
        self.base.copy_(-6 + 5 * ratio ** (0.7 + 1.3 * depth))
        self.bonus.copy_(depth * (1 - ratio) + 0.1 * ((channel + 1) % 3 - 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, tokens, dim) to log decays (batch, heads, tokens, dim / heads)."""
        return _by_heads(-torch.exp(self.base + torch.tanh(x @ self.down) @ self.up), self.heads)


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads * dim) to (batch, heads, tokens, dim)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)
