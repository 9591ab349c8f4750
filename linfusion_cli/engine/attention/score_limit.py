"""Softmax attention on devices where torch keeps every product of a query and a key: its queries are taken in parts.

One place for all callers: diffusers' processors, those of IP-Adapters and ControlNets, and attention in bands.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from linfusion_cli.planning.attention_scores import MOST_SCORES


def limited_scores(*, limited: bool) -> AbstractContextManager[object]:
    """Inside, and if it is limited, torch's attention has at most MOST_SCORES products alive at once."""
    return ScoreLimit() if limited else nullcontext()


class ScoreLimit(TorchFunctionMode):
    """A context in which scaled_dot_product_attention() goes through its queries in parts; the result is the same."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if function is F.scaled_dot_product_attention:
            return _in_parts(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _in_parts(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *more: Any, **named: Any
) -> Tensor:
    """As F.scaled_dot_product_attention: query (..., queries, dim), key and value (..., keys, dim)."""
    rows = max(1, MOST_SCORES // max(1, query[..., 0, 0].numel() * key.shape[-2]))
    count = query.shape[-2]
    causal = bool(named.get("is_causal") or more[1:2] == (True,))  # a part would need its own mask
    if count <= rows or causal:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, *more, **named)
    parts = [
        F.scaled_dot_product_attention(
            query[..., first : first + rows, :], key, value, _rows(attn_mask, first, rows), *more, **named
        )
        for first in range(0, count, rows)
    ]
    return torch.cat(parts, dim=-2)


def _rows(mask: Tensor | None, first: int, rows: int) -> Tensor | None:
    """The mask of some queries: (..., queries or 1, keys)."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., first : first + rows, :]
