"""Where torch's softmax attention keeps every product of a query and a key: no fused kernel takes it on that device.

There the engine takes the queries in parts (engine/attention/score_limit.py), so that MOST_SCORES are alive at most.
"""

from __future__ import annotations

from linfusion_cli.planning.model_shapes import UNetShape
from linfusion_cli.system.device import Machine

MOST_SCORES = 1 << 24
SCORE_BYTES = 4 + 4 + 4  # in float32: the products, their softmax, and the softmax as it is multiplied
COPY_BYTES = 3 * 4  # queries, keys and values in float32, and two of them scaled
HEAD_MULTIPLE = 8  # of a head's width that every fused kernel takes (torch: sdp_utils.cpp, minimum_gemm_alignment)


def keeps_scores(machine: Machine, unet: UNetShape, dtype: str) -> bool:
    """Whether torch's attention of this UNet keeps its scores on a machine, in a number format."""
    if machine.kind == "cpu":  # whose kernel takes every width
        return False
    widths = (c // heads for c, heads, depth in zip(unet.channels, unet.heads, unet.depths, strict=True) if depth)
    return dtype not in machine.fused_attention or any(width % HEAD_MULTIPLE for width in widths)


def score_bytes(queries: float, keys: float, channels: int, heads: int) -> float:
    """What one attention takes beside its inputs and its output, for so many tokens of each."""
    return SCORE_BYTES * min(MOST_SCORES, heads * queries * keys) + COPY_BYTES * channels * (queries + keys)
