"""The Triton kernels against the plain operators they stand for: the same numbers, and how long both take.

Renders use the kernels as `--kernels` says. The stand-in runs them in Triton's interpreter where Triton is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.gpu.case import Case, Setting, attempt
from bench.gpu.timing import seconds_of

# heads, width of a head, tokens: SD-XL's levels at 16384x8192, SD-v1.5's widest and narrowest heads; the stand-in's
SHAPES = ((10, 64, 524_288), (20, 64, 131_072), (8, 40, 262_144), (8, 160, 32_768))
TINY_SHAPES = ((2, 24, 70),)
KEYS, TINY_KEYS = 65_536, 90  # that 2,048 queries of the autoencoder attend to, in one head of 512
BAND, TINY_BAND = (640, 128, 1024), (20, 4, 30)  # channels, rows and columns of SD-XL's second level; the stand-in's
RUNS = 5


def cases(setting: Setting) -> Iterator[Case]:
    if setting.kind == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before torch is imported, which imports Triton
    from linfusion_cli.engine.attention.fused_attention import has_triton

    if not has_triton():
        yield Case("Triton", None, {"installed": False})
        return
    for dtype in ("float32", "float16") if setting.kind == "cpu" else ("float32", "float16", "bfloat16"):
        for heads, dim, tokens in TINY_SHAPES if setting.quick else SHAPES:
            name = f"{tokens} tokens, {heads} heads of {dim}, {dtype}"
            yield attempt(name, partial(_beside, name, setting, heads, dim, tokens, dtype))
        channels, rows, columns = TINY_BAND if setting.quick else BAND
        for what in ("statistics", "norm and SiLU", "GEGLU"):
            name = f"{what}, {channels}x{rows}x{columns}, {dtype}"
            yield attempt(name, partial(_layer, name, what, setting, (channels, rows, columns), dtype))
        if dtype != "float32":  # where the kernel runs
            keys = TINY_KEYS if setting.quick else KEYS
            name = f"the autoencoder's attention, {keys} keys, {dtype}"
            yield attempt(name, partial(_softmax, name, setting, keys, dtype))


def _beside(name: str, setting: Setting, heads: int, dim: int, tokens: int, dtype_name: str) -> Case:
    import torch

    from bench.gpu.parity import TOLERANCES, error_of, exact_floats
    from linfusion_cli.engine.attention import fused_attention
    from linfusion_cli.engine.attention.linear_attention import BLOCK_TOKENS, AttentionState, feature_map

    exact_floats()
    dtype = getattr(torch, dtype_name)
    torch.manual_seed(8)
    query, key, value = (torch.randn(1, tokens, heads * dim, device=setting.device).to(dtype) for _ in range(3))

    def split(x: Any) -> Any:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def plain() -> Any:
        state = AttentionState.empty(heads, key)
        whole = tokens // BLOCK_TOKENS * BLOCK_TOKENS
        for part, blocks in ((slice(0, whole), whole // BLOCK_TOKENS), (slice(whole, tokens), 1)):
            if part.stop > part.start:
                state.add(feature_map(split(key[:, part])), split(value[:, part]), blocks)
        return state.read(feature_map(split(query))).transpose(1, 2).flatten(2)

    def fused() -> Any:
        state = AttentionState.empty(heads, key)
        fused_attention.add_keys(state, key, value, max(1, tokens // BLOCK_TOKENS))
        return fused_attention.read(state, query)

    with torch.inference_mode():
        return _timed(name, setting, plain, fused, TOLERANCES[dtype], error_of)


def _layer(name: str, what: str, setting: Setting, band: tuple[int, int, int], dtype_name: str) -> Case:
    import torch
    from torch.nn import functional as F

    from bench.gpu.parity import TOLERANCES, error_of
    from linfusion_cli.engine.streaming import fused_layers
    from linfusion_cli.engine.streaming.group_norm import Statistics, affine

    channels, height, width = band
    dtype = getattr(torch, dtype_name)
    torch.manual_seed(9)
    rows = torch.randn(1, channels, height, width, device=setting.device).to(dtype)
    rows = rows.to(memory_format=torch.channels_last)
    scale, shift = torch.linspace(-1, 2, 2 * channels, device=setting.device).chunk(2)
    tokens = rows.permute(0, 2, 3, 1).flatten(1, 2)

    def moments(*, fused: bool) -> Any:
        statistics = Statistics(height, fused)
        statistics.add(rows)
        return statistics.moments().variance

    def geglu() -> Any:
        kept, gate = tokens.chunk(2, dim=-1)
        return kept * F.gelu(gate)

    pairs: dict[str, Any] = {
        "statistics": (partial(moments, fused=False), partial(moments, fused=True)),
        "norm and SiLU": (
            lambda: F.silu(affine(rows, scale, shift), inplace=True),
            lambda: fused_layers.affine(rows, scale, shift, silu=True),
        ),
        "GEGLU": (geglu, lambda: fused_layers.gated(tokens)),
    }
    with torch.inference_mode():
        return _timed(name, setting, *pairs[what], TOLERANCES[dtype], error_of)


def _softmax(name: str, setting: Setting, keys: int, dtype_name: str) -> Case:
    import torch

    from bench.gpu.parity import TOLERANCES, error_of
    from linfusion_cli.engine.streaming.vae_attention import SCORES, RunningSoftmax

    dtype, queries = getattr(torch, dtype_name), min(2048, keys)
    torch.manual_seed(10)
    query, key, value = (torch.randn(1, count, 512, device=setting.device).to(dtype) for count in (queries, keys, keys))

    def attended(*, fused: bool) -> Any:
        online = RunningSoftmax.empty(query, 512**-0.5, fused=fused)
        for part in range(0, keys, SCORES // queries):
            online.add(key[:, part : part + SCORES // queries], value[:, part : part + SCORES // queries])
        return online.result()

    with torch.inference_mode():
        plain, fused = partial(attended, fused=False), partial(attended, fused=True)
        return _timed(name, setting, plain, fused, TOLERANCES[dtype], error_of)


def _timed(name: str, setting: Setting, plain: Any, fused: Any, allowed: float, error_of: Any) -> Case:
    error = error_of(fused(), plain())
    found = {"error": error, "allowed": allowed}
    for who, run in (("plain", plain), ("fused", fused)):
        fastest = min(seconds_of(run, setting) for _ in range(1 if setting.quick else RUNS))
        found[f"{who}_ms"] = round(1e3 * fastest, 3)
    found["plain_over_fused"] = round(found["plain_ms"] / max(found["fused_ms"], 1e-9), 2)
    return Case(name, error <= allowed, found)
