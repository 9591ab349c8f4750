"""The running softmax of the autoencoder's attention in one kernel, in half precision; equal to the plain operators.

The plain path writes each score to memory in float32 and goes over it five times. In float32 its products take longer
than that, so the plain path stays.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.attention.fused_attention import has_triton, padded_dim
from linfusion_cli.engine.attention.kernel_choice import tried

DTYPES = (torch.float16, torch.bfloat16)
ROWS, KEYS, CHUNK = 64, 32, 64  # queries of a program, keys and values of a head that it takes at a time
COLUMNS = 256  # of a head: with ROWS, the sums in float32 that the registers hold
WARPS = 8
QUERIES, PARTS = 70, (45, 33)  # of the trial: more than a program takes at once


def add_keys(
    query: Tensor, key: Tensor, value: Tensor, highest: Tensor, total: Tensor, weighted: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds a part of the keys to a running softmax: the new highest scores and totals; `weighted` changes in place.

    query:          (1, queries, dim), scaled; key, value: (1, keys, dim); all of one half precision
    highest, total: (1, queries, 1), float32; weighted: (1, queries, dim), float32, contiguous
    """
    _, queries, dim = query.shape
    new_highest, new_total = torch.empty_like(highest), torch.empty_like(total)
    columns = min(COLUMNS, padded_dim(dim))
    _kernels().attend[(-(-queries // ROWS), -(-dim // columns))](
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        highest,
        total,
        weighted,
        new_highest,
        new_total,
        queries,
        key.shape[1],
        DIM=dim,
        CHUNK=CHUNK,
        COLUMNS=columns,
        ROWS=ROWS,
        KEYS=KEYS,
        num_warps=WARPS,
    )
    return new_highest, new_total


@cache
def fault_of(device: torch.device, dtype: torch.dtype, dim: int) -> str:
    """Why a head of `dim` has no kernel on a device; "" if it gives there what the plain operators give."""
    if dtype not in DTYPES:
        return f"no kernel for {dtype}"
    if device.type != "cuda" or not has_triton():
        return "no Triton"
    return tried(lambda: (_pair(device, dtype, dim),))


def _pair(device: torch.device, dtype: torch.dtype, dim: int) -> tuple[Tensor, Tensor]:
    """What the kernel gives for keys in two parts, and the plain operators in float32."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, count, dim, generator=draw).to(device, dtype) for count in (QUERIES, sum(PARTS), sum(PARTS))
    )
    query = query * dim**-0.5
    highest = torch.full((1, QUERIES, 1), -torch.inf, device=device)
    total, weighted = torch.zeros_like(highest), torch.zeros(1, QUERIES, dim, device=device)
    for keys, values in zip(key.split(PARTS, dim=1), value.split(PARTS, dim=1), strict=True):
        highest, total = add_keys(query, keys, values, highest, total, weighted)
    plain = torch.softmax(query.float() @ key.float().transpose(1, 2), dim=2) @ value.float()
    return weighted / total, plain


def _kernels() -> Any:
    from linfusion_cli.engine.streaming import triton_softmax  # needs Triton, which not every build of torch brings

    return triton_softmax
