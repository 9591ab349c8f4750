"""Linear attention in two kernels: one sums over keys and values, one reads; equal to the plain operators.

The plain path writes phi(K), phi(Q), their float32 copies and every intermediate result to memory; here each token is
read once and written once. Products take half precision in and add in float32; sums of blocks are added in float64.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.attention.linear_attention import EPSILON, AttentionState
from linfusion_cli.engine.memory.dtypes import for_sums

ROWS = {torch.float16: 64, torch.bfloat16: 64, torch.float32: 32}  # tokens of a program at a time
COLUMNS = 64  # of a state: more would not fit into a multiprocessor's registers
LEAST_DIM, MOST_DIM = 16, 256  # that a product of tensor cores takes, and that the registers hold


@cache
def has_triton() -> bool:
    """Whether Triton is installed; the CUDA builds of torch bring it on Linux."""
    return importlib.util.find_spec("triton") is not None


def can_fuse(hidden: Tensor, heads: int) -> bool:
    """Whether the kernels can take tokens (batch, tokens, heads * dim) of this dtype, on this device."""
    dim = hidden.shape[-1] // heads
    return hidden.dtype in ROWS and dim <= MOST_DIM and hidden.device.type == "cuda" and has_triton()


def add_keys(state: AttentionState, key: Tensor, value: Tensor, blocks: int = 1) -> None:
    """As AttentionState.add(), for keys without phi; a program sums a block of one head.

    key, value: (batch, tokens, heads * dim), of one dtype and device; blocks divides tokens
    """
    heads, dim = state.key_value.shape[1], state.key_value.shape[-1]
    batch, tokens, _ = key.shape
    products = torch.empty(batch, blocks, heads, dim, dim, dtype=torch.float32, device=key.device)
    sums = torch.empty(batch, blocks, heads, dim, dtype=torch.float32, device=key.device)
    padded = padded_dim(dim)
    columns = min(COLUMNS, padded)
    grid = (blocks, -(-dim // columns), batch * heads)
    _kernels().sum_keys[grid](
        key.contiguous(),
        value.contiguous(),
        products,
        sums,
        tokens,
        heads,
        blocks,
        tokens // blocks,
        DIM=dim,
        PADDED=padded,
        COLUMNS=columns,
        ROWS=ROWS[key.dtype],
        PRECISION="ieee",  # of float32 alone: half precision is exact in a product
    )
    state.key_value += products.sum(1, dtype=for_sums(products))
    state.key += sums.sum(1, dtype=for_sums(sums))
    state.tokens += tokens


def read(state: AttentionState, query: Tensor) -> Tensor:
    """As AttentionState.read(), for queries without phi: (batch, tokens, heads * dim) to the same shape and dtype."""
    heads, dim = state.key_value.shape[1], state.key_value.shape[-1]
    batch, tokens, _ = query.shape
    query, out = query.contiguous(), torch.empty_like(query, memory_format=torch.contiguous_format)
    padded = padded_dim(dim)
    columns = min(COLUMNS, padded)
    rows = ROWS[query.dtype]
    grid = (-(-tokens // rows), -(-dim // columns), batch * heads)
    _kernels().read_queries[grid](
        query,
        (state.key_value / state.tokens).float(),
        (state.key / state.tokens).float(),
        out,
        tokens,
        heads,
        EPSILON=EPSILON,
        DIM=dim,
        PADDED=padded,
        COLUMNS=columns,
        ROWS=rows,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",  # ten bits: as many as the half that comes out
    )
    return out


def padded_dim(dim: int) -> int:
    """A head's width as the next power of two that a product of tensor cores takes."""
    return max(LEAST_DIM, 1 << (dim - 1).bit_length())


def _kernels() -> Any:
    from linfusion_cli.engine.attention import triton_kernels  # needs Triton, which not every build of torch brings

    return triton_kernels
