"""Fused kernels are used where a trial gives the plain operators' numbers; else one note says why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import golden_unet, load_golden
from torch import Tensor

from linfusion_cli.engine.attention import fused_attention
from linfusion_cli.engine.attention.kernel_choice import choose_kernels, tried
from linfusion_cli.engine.attention.linear_attention import AttentionState, LinearAttention, feature_map
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.attention.streamed_attention import seen_by
from linfusion_cli.engine.memory.peers import ALONE

CPU = torch.device("cpu")


def unmounted() -> Any:
    return golden_unet(*load_golden(Path(__file__).parents[2] / "data" / "unet_sd15.safetensors"))


def heads_apart(x: Tensor, state: AttentionState) -> Tensor:
    return x.unflatten(-1, (state.key.shape[1], -1)).transpose(1, 2)


def add_keys(state: AttentionState, key: Tensor, value: Tensor, blocks: int = 1) -> None:
    state.add(feature_map(heads_apart(key, state)), heads_apart(value, state), blocks)


def read(state: AttentionState, query: Tensor) -> Tensor:
    return state.read(feature_map(heads_apart(query, state))).transpose(1, 2).flatten(2)


def read_garbage(state: AttentionState, query: Tensor) -> Tensor:
    return read(state, query) * 1.1


def read_no_more(state: AttentionState, query: Tensor) -> Tensor:
    raise RuntimeError("ptxas: unsupported architecture\nand its whole output")


def chosen(monkeypatch: pytest.MonkeyPatch, kernels: str, reading: Any, *, can: bool = True) -> tuple[bool, str]:
    """Whether the attentions have fused kernels then, and what is told."""
    monkeypatch.setattr(fused_attention, "can_fuse", lambda *_: can)
    monkeypatch.setattr(fused_attention, "add_keys", add_keys)
    monkeypatch.setattr(fused_attention, "read", reading)
    linfusion = LinFusion.like(unmounted())
    note = choose_kernels(linfusion, kernels, CPU, torch.float32)
    used = {attention.kernels for attention in linfusion.attentions}
    assert len(used) == 1
    return used == {fused_attention}, note


def test_right_kernels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "fused", read) == (True, "")
    assert chosen(monkeypatch, "plain", read) == (False, "")


@pytest.mark.parametrize(
    ("reading", "can", "reason"),
    [
        (read_garbage, True, "off by 10%"),
        (read_no_more, True, "RuntimeError: ptxas: unsupported architecture"),
        (read, False, "heads of|no Triton"),
    ],
)
def test_what_fails_is_told(monkeypatch: pytest.MonkeyPatch, reading: Any, can: bool, reason: str) -> None:
    used, note = chosen(monkeypatch, "fused", reading, can=can)
    assert not used
    assert re.search(rf"do not run on cpu \(.*({reason}).*\): the plain ones are used", note)


def attention_and_tokens() -> tuple[LinearAttention, Tensor]:
    torch.manual_seed(3)
    attention = LinearAttention(32, 2)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return attention.requires_grad_(False), torch.randn(1, 60, 32)


def through_bands(attention: LinearAttention, tokens: Tensor) -> Tensor:
    """In bands of two rows and of one, each of 20 tokens."""
    seen = seen_by(attention, tokens, tokens.shape[1])
    parts = (tokens[:, :40], tokens[:, 40:])
    for part, rows in zip(parts, (2, 1), strict=True):
        seen.add(part, rows)
    seen.finish(ALONE, 3, 20)
    return torch.cat([seen.read(part) for part in parts], dim=1)


@pytest.mark.parametrize(
    "real",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(not fused_attention.has_triton(), reason="Triton is not installed")
        ),
    ],
)
def test_attentions_with_other_kernels_give_the_same(monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    if not real:
        monkeypatch.setattr(fused_attention, "add_keys", add_keys)
        monkeypatch.setattr(fused_attention, "read", read)
    attention, tokens = attention_and_tokens()
    plain, banded = attention(tokens), through_bands(attention, tokens)
    attention.kernels = fused_attention
    assert torch.allclose(attention(tokens), plain, atol=1e-5)
    assert torch.allclose(through_bands(attention, tokens), banded, atol=1e-5)
    assert torch.allclose(banded, plain, atol=1e-5)


def test_a_controlnets_attentions_have_the_unets_kernels() -> None:
    unet = unmounted()
    linfusion = LinFusion.like(unet)
    for attention in linfusion.attentions:
        attention.kernels = fused_attention
    assert {attention.kernels for attention in linfusion.narrowed(unet).attentions} == {fused_attention}


def test_one_value_that_is_no_number_is_a_fault_wherever_it_stands() -> None:
    right, wrong = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
    assert tried(lambda: [(right, right), (right, right)]) == ""
    for pairs in ([(wrong, right), (right, right)], [(right, right), (wrong, right)]):
        assert tried(lambda pairs=pairs: pairs) == "they are off by nan%"
