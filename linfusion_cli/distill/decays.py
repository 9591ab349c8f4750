"""What decides how fast a token is forgotten: Mamba2's, GLA's and RWKV6's decays, with their papers' initial values."""

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

    Layers of dim channels in `heads` heads; x (batch, tokens, dim) gives log decays (batch, heads, tokens, 1).
    A is drawn from [1, 16] and b from the inverse of softplus, so that dt lies in [0.001, 0.1].
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.step = nn.Linear(dim, heads, bias=False)
        dt = torch.exp(torch.empty(heads).uniform_(math.log(DT_RANGE[0]), math.log(DT_RANGE[1])))
        self.step_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(*A_RANGE).log())
        self.skip = nn.Parameter(torch.ones(heads))  # D: what a token reads of its own value

    def forward(self, x: Tensor) -> Tensor:
        steps = F.softplus(self.step(x) + self.step_bias)
        return (-steps * self.log_rate.exp()).transpose(1, 2).unsqueeze(-1)


class GlaDecay(nn.Module):
    """Gated linear attention: one decay per channel, sigmoid(x W1 W2 + b)^(1/16) (arXiv 2312.06635, section 4).

    x (batch, tokens, dim) gives log decays (batch, heads, tokens, dim of a head). b = 0 at the start.
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
        return _by_heads(F.logsigmoid(self.up(self.down(x))) / GLA_TEMPERATURE, self.heads)


class Rwkv6Decay(nn.Module):
    """RWKV6: one decay per channel, exp(-exp(w0 + tanh(x A) B)), and a bonus u for the token itself (arXiv 2404.05892).

    x (batch, tokens, dim) gives log decays (batch, heads, tokens, dim of a head). depth: of the layer, 0 (first) to 1.
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
        """Sets the initial values of a layer at `depth`, as RWKV-LM's version 6 does."""
        dim = len(self.base)
        channel = torch.arange(dim, dtype=torch.float32)
        ratio = channel / max(1, dim - 1)
        self.base.copy_(-6 + 5 * ratio ** (0.7 + 1.3 * depth))
        self.bonus.copy_(depth * (1 - ratio) + 0.1 * ((channel + 1) % 3 - 1))

    def forward(self, x: Tensor) -> Tensor:
        return _by_heads(-torch.exp(self.base + torch.tanh(x @ self.down) @ self.up), self.heads)


def _by_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, heads * dim) to (batch, heads, tokens, dim)."""
    split: Tensor = x.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)
