"""The slow, obvious versions that every fast path must equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear_attention(weights: nn.Module, x: Tensor, heads: int) -> Tensor:
    """Generalised linear attention, token by token, from its formula (arXiv 2409.02097); x (tokens, channels)."""
    query = F.elu(weights.to_q(x + weights.to_q_(x))) + 1
    key = F.elu(weights.to_k(x + weights.to_k_(x))) + 1
    value = weights.to_v(x)
    tokens, dim = x.shape[0], x.shape[1] // heads
    out = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * dim, (head + 1) * dim)
        state = torch.zeros(dim, dim, dtype=x.dtype)
        mean = torch.zeros(dim, dtype=x.dtype)
        for j in range(tokens):
            state += torch.outer(key[j, part], value[j, part]) / tokens
            mean += key[j, part] / tokens
        for i in range(tokens):
            out[i, part] = query[i, part] @ state / (query[i, part] @ mean + 1e-4)
    return weights.to_out[0](out)


def dilate_in_place(model: nn.Module, factor: int) -> None:
    """Dilates every convolution of a model by changing it, as the official code does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.dilation = tuple(factor * d for d in module.dilation)
            module.padding = tuple(factor * p for p in module.padding)


def gaussian_blur(latents: Tensor, sigma: float, ratio: int) -> Tensor:
    """The official low-pass: one square kernel, zeros around."""
    size = 2 * ratio - 1
    offset = torch.arange(size) - (size - 1) / 2
    line = torch.exp(-(offset**2) / (2 * sigma**2))
    line = line / line.sum()
    kernel = (line[:, None] * line[None, :]).expand(latents.shape[1], 1, size, size)
    return F.conv2d(latents, kernel, padding=size // 2, groups=latents.shape[1])
