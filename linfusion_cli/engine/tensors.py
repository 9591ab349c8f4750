"""Reads tensors one by one from safetensors files, in the number format wanted, and fills models with them.

Plain reads instead of a mapped file: mapped pages count as memory of the process, a file that shrinks while it is mapped kills
it, and converting a mapped float32 file to float16 holds both (measured: 2.9 times the weights; here 1.0 times).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.checksums import verify
from linfusion_cli.weights.headers import Header, read_header

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F64": torch.float64,
}


def read_tensors(path: Path, dtype: torch.dtype | None, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """The wanted tensors of a file by name; floating-point ones as `dtype` (None: as they are).

    Raises WeightsError for what is no whole safetensors file, or not what was published where that is known.
    """
    return read_header_tensors(read_header(path), dtype, wanted)


def read_header_tensors(header: Header, dtype: torch.dtype | None, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
    """The same for a header that is read already."""
    verify(header.path)
    tensors: dict[str, Tensor] = {}
    try:
        with header.path.open("rb", buffering=0) as file:
            for name, info in header.tensors.items():
                if not wanted(name):
                    continue
                data = torch.empty(info.end - info.begin, dtype=torch.uint8)
                file.seek(info.begin)
                _read_into(file, memoryview(cast("bytearray", data.numpy())), header.path)
                tensor = data.view(DTYPES[info.dtype]).reshape(info.shape)
                tensors[name] = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    except OSError as error:
        raise WeightsError(f"{header.path}: can't be read ({error.strerror})") from error
    return tensors


def _read_into(file: Any, view: memoryview, path: Path) -> None:
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise WeightsError(f"{path}: the file became shorter while it was read")
        done += count


def build(make: Callable[[], nn.Module], tensors: Iterable[Mapping[str, Tensor]], source: str, *, extra_allowed: bool = False) -> Any:
    """A model made without memory for its parameters, which become the tensors given.

    Raises WeightsError naming the first tensor that is missing, of another shape or (unless allowed) not the model's.
    """
    with init_empty_weights():
        model: Any = make()
    own = dict(model.state_dict())
    given: dict[str, Tensor] = {}
    for part in tensors:
        given |= part
    if hasattr(model, "_fix_state_dict_keys_on_load"):
        model._fix_state_dict_keys_on_load(given)  # names of the autoencoder's attention before 2023
    check_tensors({name: tuple(value.shape) for name, value in own.items()}, given, source, extra_allowed=extra_allowed)
    model.load_state_dict({name: value for name, value in given.items() if name in own}, assign=True)
    return model.eval()


def memory_format(kind: str) -> torch.memory_format:
    """The layout that the convolutions of a kind of device like: on CPUs channels-last is twice as fast."""
    return torch.channels_last if kind == "cpu" else torch.contiguous_format


def check_tensors(own: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor], source: str, *, extra_allowed: bool) -> None:
    """Raises WeightsError naming the first tensor that is missing, of another shape, or extra."""
    for name, shape in own.items():
        if name not in given:
            raise WeightsError(f"{source}: tensor {name} is missing: the file is damaged, incomplete or of another model")
        if tuple(given[name].shape) != shape:
            raise WeightsError(f"{source}: tensor {name} has shape {tuple(given[name].shape)}, expected {shape}")
    if not extra_allowed:
        for name in given:
            if name not in own:
                raise WeightsError(f"{source}: tensor {name} is not expected")
