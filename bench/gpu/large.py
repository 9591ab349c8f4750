"""Tensors of 2^31 values and more, where libraries overflowed (pytorch #95024, #117736): equal to small pieces of them.

The engine keeps convolutions below that; slabs, norms, sums and resizes of a 16384x8192 image go above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.gpu.case import Case, Setting, attempt
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming.convolutions import Convolved
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Held, Mapped, Parked, normalised, park
from linfusion_cli.geometry import Band, Size

LIMIT = 1 << 31
CHANNELS, BAND_ROWS = 128, 64
ALLOWED = 2e-3  # of a value: float16 rounds to a two-thousandth


def cases(setting: Setting) -> Iterator[Case]:
    """Each makes what it needs and frees it: about 10 GB of the device at a time."""
    width = 32 if setting.quick else 4096
    height = 256 if setting.quick else LIMIT // (CHANNELS * width) + 64
    yield attempt("a slab above 2^31", partial(_slab, setting, height, width))
    _free(setting)
    yield attempt("sweeps above 2^31", partial(_sweeps, setting, height, width))
    _free(setting)
    yield attempt("enlarged above 2^31", partial(_enlarged, setting, height, width))
    _free(setting)
    yield attempt("one convolution above 2^31", partial(_one_convolution, setting, height, width))


def _free(setting: Setting) -> None:
    if setting.kind == "cuda":
        torch.cuda.empty_cache()


def _pattern(rows: int, width: int, top: int, device: str) -> Tensor:
    """(1, CHANNELS, rows, width) in float16: values that say where they lie, in the layout of slabs."""
    y = torch.arange(top, top + rows, device=device).view(-1, 1, 1)
    x = torch.arange(width, device=device).view(1, -1, 1)
    c = torch.arange(CHANNELS, device=device).view(1, 1, -1)
    return (((y * 7 + x * 3 + c * 11) % 61).to(torch.float16) / 61 - 0.5).permute(2, 0, 1).unsqueeze(0)


def _filled(setting: Setting, height: int, width: int) -> Parked:
    store = ActivationStore.unlimited(torch.device(setting.device))
    slab = store.slab((height, width, CHANNELS), torch.float16)
    field = Parked(slab, height, width, CHANNELS, store.device)
    for top in range(0, height, BAND_ROWS):
        rows = min(BAND_ROWS, height - top)
        field.write(Band(top, top + rows), _pattern(rows, width, top, setting.device))
    return field


def _slab(setting: Setting, height: int, width: int) -> Case:
    field, wrong = _filled(setting, height, width), 0
    for top in (0, height // 2, height - 3):
        wrong += int((field.rows(Band(top, top + 3)) != _pattern(3, width, top, setting.device)).sum())
    return Case("a slab above 2^31", not wrong, {"values": height * width * CHANNELS, "wrong values": wrong})


def _sweeps(setting: Setting, height: int, width: int) -> Case:
    """GroupNorm, SiLU and a convolution in bands: the statistics see every value, the bands are right at the end."""
    field = _filled(setting, height, width)
    store = ActivationStore.unlimited(torch.device(setting.device))
    held = park(Mapped(field, lambda rows: rows), BAND_ROWS, store, None, lambda _: None)
    mean, variance = _exact_moments(setting, height, width)
    errors = {
        "mean": float((held.moments.mean.double().cpu() - mean).abs().max()),
        "variance": float((held.moments.variance.double().cpu() - variance).abs().max()),
    }
    torch.manual_seed(4)
    norm = nn.GroupNorm(8, CHANNELS).to(setting.device, torch.float16)
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(setting.device, torch.float16)
    with torch.inference_mode():
        source = Convolved.same(normalised(held, norm, silu=True), conv)
        for name, top in (("first rows", 0), ("last rows", height - 4)):
            found = source.rows(Band(top, top + 4))
            errors[name] = _error(found, _expected(held, norm, conv, top, height))
    right = all(error <= ALLOWED for error in errors.values())
    return Case("sweeps above 2^31", right, {"values": height * width * CHANNELS, **errors, "allowed": ALLOWED})


def _exact_moments(setting: Setting, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel in float64, added row band by row band."""
    total = torch.zeros(CHANNELS, dtype=torch.float64)
    squares, count = total.clone(), height * width
    for top in range(0, height, BAND_ROWS):
        rows = min(BAND_ROWS, height - top)
        values = _pattern(rows, width, top, setting.device).double()
        total += values.sum((0, 2, 3)).cpu()
        squares += values.square().sum((0, 2, 3)).cpu()
    mean = total / count
    return mean, squares / count - mean.square()


def _expected(held: Held, norm: nn.GroupNorm, conv: nn.Conv2d, top: int, height: int) -> Tensor:
    """Four rows from `top` in float32, from a piece of the field that holds them and their neighbours."""
    first, last = max(0, top - 1), min(height, top + 5)
    x = held.field.rows(Band(first, last)).float()
    groups = held.moments.mean.float().view(norm.num_groups, -1)
    spread = (held.moments.variance + held.moments.mean.square()).float().view(norm.num_groups, -1)
    mean = groups.mean(1)
    deviation = (spread.mean(1) - mean.square() + norm.eps).sqrt()
    each = x.shape[1] // norm.num_groups
    mean, deviation = (values.repeat_interleave(each).view(1, -1, 1, 1) for values in (mean, deviation))
    y = (x - mean) / deviation * norm.weight.float().view(1, -1, 1, 1) + norm.bias.float().view(1, -1, 1, 1)
    padded = F.pad(F.silu(y), (1, 1, int(first == top), int(last == top + 4)))
    bias = conv.bias.float() if conv.bias is not None else None
    return F.conv2d(padded, conv.weight.float(), bias)


def _enlarged(setting: Setting, height: int, width: int) -> Case:
    """The last rows of an image of half the size, enlarged: as those of a piece of it."""
    size = Size(width, height // 2 * 2)
    half = _filled(setting, size.height // 2, size.width // 2)
    whole = Resized.to(half, size, "bicubic", -1.0, 1.0)
    rows = whole.rows(Band(size.height - 8, size.height))
    lines = min(64, half.height)
    piece = Parked.of(half.rows(Band(half.height - lines, half.height)).contiguous())
    expected = Resized.to(piece, Size(width, 2 * lines), "bicubic", -1.0, 1.0).rows(Band(2 * lines - 8, 2 * lines))
    error = _error(rows, expected)
    return Case("enlarged above 2^31", error <= ALLOWED, {"values": size.area * CHANNELS, "error": error})


def _one_convolution(setting: Setting, height: int, width: int) -> Case:
    """torch's own convolution at that size, which the engine never asks for: whether this torch could do it."""
    image = _pattern(height, width, 0, setting.device)
    torch.manual_seed(5)
    conv = nn.Conv2d(CHANNELS, 2, 3, padding=1).to(setting.device, torch.float16)
    with torch.inference_mode():
        last = conv(image)[:, :, -4:]
        piece = conv(image[:, :, -8:])[:, :, -4:]
    found = {"values": image.numel(), "error": _error(last, piece)}
    return Case("one convolution above 2^31 (only told)", None, found)


def _error(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest expected value."""
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
