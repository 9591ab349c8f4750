"""The kernel of the autoencoder's softmax attention for Triton; importing it needs Triton. fused_softmax.py calls it.

A head of 512 is wider than the kernels that torch brings take: scores are summed in chunks of it, and a program makes
some columns of the result. No score is written to memory (arXiv 2205.14135, algorithm 1, with queries outside).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def attend(  # type: ignore[no-untyped-def]
    query,
    key,
    value,
    highest,
    total,
    weighted,
    new_highest,
    new_total,
    queries,
    keys,
    DIM: tl.constexpr,
    CHUNK: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Adds all keys and values (keys, DIM) to the running softmax of ROWS queries, for COLUMNS columns of the values.

    weighted is changed in place: a program has its part alone. Programs of other columns still read highest and total
    while the first ones are done, so these go to new places. Products are exact, sums float32.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = rows < queries
    lines = rows.to(tl.int64)[:, None] * DIM
    kept = known[:, None] & (columns[None, :] < DIM)
    peak = tl.load(highest + rows, mask=known, other=0.0)
    weight = tl.load(total + rows, mask=known, other=0.0)
    sums = tl.load(weighted + lines + columns[None, :], mask=kept, other=0.0)
    for start in range(0, keys, KEYS):
        others = start + tl.arange(0, KEYS)
        here = others < keys
        other_lines = others.to(tl.int64)[:, None] * DIM
        scores = tl.zeros((ROWS, KEYS), dtype=tl.float32)
        for first in range(0, DIM, CHUNK):
            dims = first + tl.arange(0, CHUNK)
            inside = dims[None, :] < DIM
            q = tl.load(query + lines + dims[None, :], mask=known[:, None] & inside, other=0.0)
            k = tl.load(key + other_lines + dims[None, :], mask=here[:, None] & inside, other=0.0)
            scores += tl.dot(q, tl.trans(k))
        scores = tl.where(here[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        fade = tl.exp(peak - higher)
        scores = tl.exp(scores - higher[:, None])
        v = tl.load(value + other_lines + columns[None, :], mask=here[:, None] & (columns[None, :] < DIM), other=0.0)
        sums = sums * fade[:, None] + tl.dot(scores.to(v.dtype), v)
        weight = weight * fade + tl.sum(scores, axis=1)
        peak = higher
    tl.store(weighted + lines + columns[None, :], sums, mask=kept)
    if tl.program_id(1) == 0:
        tl.store(new_highest + rows, peak, mask=known)
        tl.store(new_total + rows, weight, mask=known)
