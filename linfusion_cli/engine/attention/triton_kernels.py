"""The two kernels of linear attention for Triton; importing this module needs it. fused_attention.py calls them.

Tensors are (batch, tokens, heads * DIM), contiguous. Offsets are 64-bit: 4 million tokens of 640 channels pass 2^31.
phi(u) is u + 1 above 0 and exp(u) below: small values are kept (arXiv 2006.16236, eq. 7).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def feature_map(u, inside):  # type: ignore[no-untyped-def]
    """phi(u) where it lies inside, else 0; rounded to the dtype of u, as the plain path rounds it."""
    x = u.to(tl.float32)
    return tl.where(inside, tl.where(x > 0, x + 1.0, tl.exp(tl.minimum(x, 0.0))), 0.0).to(u.dtype)


@triton.jit  # type: ignore[untyped-decorator]
def sum_keys(  # type: ignore[no-untyped-def]
    key,
    value,
    key_value_sums,
    key_sums,
    tokens,
    heads,
    blocks,
    block_tokens,
    DIM: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """phi(K)^T V and the sum of phi(K) over block_tokens tokens of one head, for COLUMNS columns of V, in float32."""
    block, column_block = tl.program_id(0), tl.program_id(1)
    batch, head = tl.program_id(2) // heads, tl.program_id(2) % heads
    first = (batch.to(tl.int64) * tokens * heads + head) * DIM
    dims = tl.arange(0, PADDED)
    columns = column_block * COLUMNS + tl.arange(0, COLUMNS)
    products = tl.zeros((PADDED, COLUMNS), dtype=tl.float32)
    sums = tl.zeros((PADDED,), dtype=tl.float32)
    for start in range(0, block_tokens, ROWS):
        within = start + tl.arange(0, ROWS)
        rows = block * block_tokens + within
        lines = first + rows.to(tl.int64)[:, None] * (heads * DIM)
        here = (within < block_tokens)[:, None] & (rows < tokens)[:, None]
        inside = here & (dims[None, :] < DIM)
        k = tl.load(key + lines + dims[None, :], mask=inside, other=0.0)
        v = tl.load(value + lines + columns[None, :], mask=here & (columns[None, :] < DIM), other=0.0)
        p = feature_map(k, inside)
        products += tl.dot(tl.trans(p), v, input_precision=PRECISION)
        sums += tl.sum(p.to(tl.float32), axis=0)
    index = (batch * blocks + block).to(tl.int64) * heads + head
    to = key_value_sums + index * DIM * DIM + dims[:, None] * DIM + columns[None, :]
    tl.store(to, products, mask=(dims[:, None] < DIM) & (columns[None, :] < DIM))
    if column_block == 0:
        tl.store(key_sums + index * DIM + dims, sums, mask=dims < DIM)


@triton.jit  # type: ignore[untyped-decorator]
def read_queries(  # type: ignore[no-untyped-def]
    query,
    key_value,
    key,
    out,
    tokens,
    heads,
    EPSILON: tl.constexpr,
    DIM: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """phi(Q) S / (phi(Q) m + eps) for ROWS tokens and COLUMNS columns of one head, in the dtype of the query."""
    column_block = tl.program_id(1)
    batch, head = tl.program_id(2) // heads, tl.program_id(2) % heads
    first = (batch.to(tl.int64) * tokens * heads + head) * DIM
    dims = tl.arange(0, PADDED)
    columns = column_block * COLUMNS + tl.arange(0, COLUMNS)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lines = first + rows.to(tl.int64)[:, None] * (heads * DIM)
    here = rows[:, None] < tokens
    inside = here & (dims[None, :] < DIM)
    q = tl.load(query + lines + dims[None, :], mask=inside, other=0.0)
    p = feature_map(q, inside).to(tl.float32)
    index = (batch * heads + head).to(tl.int64)
    mean = tl.load(key + index * DIM + dims, mask=dims < DIM, other=0.0)
    wide = columns[None, :] < DIM
    state = tl.load(
        key_value + index * DIM * DIM + dims[:, None] * DIM + columns[None, :],
        mask=(dims[:, None] < DIM) & wide,
        other=0.0,
    )
    normaliser = tl.sum(p * mean[None, :], axis=1) + EPSILON
    attended = tl.dot(p, state, input_precision=PRECISION) / normaliser[:, None]
    tl.store(out + lines + columns[None, :], attended.to(q.dtype), mask=here & wide)
