"""Linear attention with decay, a recurrence over tokens computed in chunks: what Mamba2, GLA and RWKV6 share."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_TOKENS = 64  # the exponents of a chunk take chunk * chunk * dim values for each image and head


def decayed_scan(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, bonus: Tensor | None = None) -> Tensor:
    """Runs the recurrence: each token decays the state, adds its key and value, and reads it with its query.

    query, key: (batch, heads, tokens, dim)
    value:      (batch, heads, tokens, width); the result has its shape and number format
    log_decay:  log a_t <= 0, (batch, heads, tokens, dim), or (batch, heads, tokens, 1) for one decay per head
    bonus:      u, (heads, dim), or None
    The state is (batch, heads, dim, width), in float32 at least.

    Without a bonus: S_t = diag(a_t) S_{t-1} + k_t^T v_t, y_t = q_t S_t (Mamba2, arXiv 2405.21060; GLA, 2312.06635).
    With one: y_t = q_t (S_{t-1} + diag(u) k_t^T v_t), and the same S_t (RWKV6, arXiv 2404.05892).
    """
    dtype = torch.promote_types(torch.float32, value.dtype)
    own = None if bonus is None else (query * bonus.unsqueeze(1) * key).sum(-1, keepdim=True).to(dtype) * value
    state = value.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1], dtype=dtype)
    parts: list[Tensor] = []
    with torch.autocast(value.device.type, enabled=False):
        for q, k, v, decay in zip(*(_chunks(x.to(dtype)) for x in (query, key, value, log_decay)), strict=True):
            read, state = _chunk(q, k, v, decay, state, exclusive=bonus is not None)
            parts.append(read)
    scanned = torch.cat(parts, dim=2)
    return (scanned if own is None else scanned + own).to(value.dtype)


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    chunks: tuple[Tensor, ...] = x.split(CHUNK_TOKENS, dim=2)
    return chunks


def _chunk(
    query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, state: Tensor, *, exclusive: bool
) -> tuple[Tensor, Tensor]:
    """What the tokens of a chunk read, (batch, heads, chunk, width), and the state after the chunk.

    state:     S before the chunk, (batch, heads, dim, width)
    exclusive: a token reads S_{t-1}, without its own term (RWKV6)
    """
    since_start = log_decay.cumsum(2)
    until_read = since_start - log_decay if exclusive else since_start
    scores = _within(query, key, until_read, since_start, exclusive=exclusive)
    read = (query * until_read.exp()) @ state + scores @ value
    until_end = since_start[:, :, -1:]
    kept = key * (until_end - since_start).exp()  # decayed from each token to the end of the chunk
    return read, until_end.exp().transpose(-1, -2) * state + kept.transpose(-1, -2) @ value


def _within(query: Tensor, key: Tensor, read: Tensor, written: Tensor, *, exclusive: bool) -> Tensor:
    """Scores between the tokens of a chunk, (batch, heads, reading token, written token).

    read, written: sums of log decays from the start of the chunk to the reading and to the written token. Only their
    differences are exponentiated: they are at most 0, so nothing overflows.
    """
    tokens = query.shape[2]
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril(-1 if exclusive else 0)
    exponents = (read.unsqueeze(3) - written.unsqueeze(2)).masked_fill(~seen[..., None], -torch.inf)
    if exponents.shape[-1] == 1:
        return (query @ key.transpose(-1, -2)) * exponents.squeeze(-1).exp()
    return torch.einsum("bhtd,bhsd,bhtsd->bhts", query, key, exponents.exp())
