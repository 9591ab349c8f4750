"""Attention over tokens that arrive in parts is attention over all of them, linear or softmax."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from linfusion_cli.engine.attention.linear_attention import LinearAttention
from linfusion_cli.engine.attention.streamed_attention import seen_by

ROWS, WIDTH = 6, 5


def attention(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "linear":
        return LinearAttention(8, 2, None).double()
    return Attention(query_dim=8, heads=2, dim_head=4).double()


@pytest.mark.parametrize("kind", ["linear", "softmax"])
@pytest.mark.parametrize("part_rows", [1, 4, 6])
@torch.inference_mode()
def test_parts_add_up_to_the_whole(kind: str, part_rows: int) -> None:
    layer, tokens = attention(kind), torch.randn(1, ROWS * WIDTH, 8).double()
    seen = seen_by(layer, tokens[:, :0], ROWS * WIDTH)
    for part in tokens.split(part_rows * WIDTH, dim=1):
        seen.add(part, part.shape[1] // WIDTH)
    assert torch.allclose(torch.cat([seen.read(part) for part in tokens.split(7, dim=1)], dim=1), layer(tokens))


@torch.inference_mode()
def test_linear_sums_differ_by_rounding_alone() -> None:
    layer, tokens = LinearAttention(8, 2, None), torch.randn(1, ROWS * WIDTH, 8)
    results = []
    for part_rows in (1, 2, 6):
        seen = seen_by(layer, tokens[:, :0], ROWS * WIDTH)
        for part in tokens.split(part_rows * WIDTH, dim=1):
            seen.add(part, part.shape[1] // WIDTH)
        results.append(seen.read(tokens))
    assert torch.allclose(results[0], results[1], atol=1e-6)
    assert torch.allclose(results[0], results[2], atol=1e-6)
