"""Writes a safetensors file tensor by tensor: beside a mapped source it needs the memory of one tensor alone."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from typing import IO

import torch
from torch import Tensor

from linfusion_cli.errors import WeightsError

NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
ALIGNMENT = 8  # of the first tensor, as the format asks
CHUNK_BYTES = 64 << 20


def size_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Of all tensors as they are written: one that shares its memory with another is written in full."""
    return sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors.values())


def write(
    file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str], progress: Callable[[int], None]
) -> None:
    """Writes the tensors in the order of number formats and names; `progress` gets the bytes written so far.

    Raises WeightsError for a tensor of a kind that the format does not have: sparse, quantised or complex.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    file.write(_header(ordered, metadata))
    done = 0
    for _, tensor in ordered:
        flat = tensor.detach().reshape(-1)
        step = max(CHUNK_BYTES // flat.element_size(), 1)
        for start in range(0, flat.numel(), step):
            piece = flat[start : start + step].contiguous().view(torch.uint8)
            file.write(piece.numpy().data)
            done += piece.numel()
            progress(done)
    file.flush()
    os.fsync(file.fileno())


def _header(ordered: list[tuple[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, tensor in ordered:
        dtype = NAMES.get(tensor.dtype)
        if dtype is None or tensor.layout is not torch.strided or tensor.is_quantized:
            kind = "sparse" if tensor.layout is not torch.strided else str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"its tensor {name[:120]} is {kind}, which safetensors does not have")
        end = begin + math.prod(tensor.shape) * tensor.element_size()
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
