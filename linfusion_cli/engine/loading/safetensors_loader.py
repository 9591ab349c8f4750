"""Reads tensors one by one from safetensors files, in the number format wanted, and fills models with them.

A tensor whose number format changes is read and converted at once: a mapped file would be held beside what it becomes
(measured: 2.9 times the weights; here 1.0 times). One that stays as it is may be borrowed, each in a mapping of its
own, until `own` copies it to memory that suits the device. A file that is cut while it is mapped kills the process, so
mappings last no longer than loading does.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from linfusion_cli.engine.compat_diffusers import hollow, rename_old_keys
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.checksums import verify
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.safetensors_header import CONVOLUTION, Header, TensorInfo

CPU = torch.device("cpu")
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


def read_tensors(
    header: Header, dtype: torch.dtype | None, wanted: Callable[[str], bool] = lambda _: True, *, borrow: bool = False
) -> dict[str, Tensor]:
    """The tensors of a file by name, of the wanted names; floating-point ones as `dtype` (None: as they are).

    borrow: tensors that need no conversion are parts of the mapped file; `own` must be called on the model before use
    Raises WeightsError if the file became shorter, or is not what was published where that is known.
    """
    verify(header.path)
    chosen = {name: info for name, info in header.tensors.items() if wanted(name)}
    try:
        with header.path.open("rb", buffering=0) as file:
            return {name: _tensor(file, info, dtype, header.path, borrow=borrow) for name, info in chosen.items()}
    except OSError as error:
        raise WeightsError(f"{header.path}: can't be read ({error.strerror})") from error


def _tensor(file: FileIO, info: TensorInfo, dtype: torch.dtype | None, path: Path, *, borrow: bool) -> Tensor:
    stored = DTYPES[info.dtype]
    wanted = dtype if dtype is not None and stored.is_floating_point else stored
    data = _borrowed(file, info, path) if borrow and wanted == stored else _read(file, info, path)
    return data.view(stored).reshape(info.shape).to(wanted)


def _read(file: FileIO, info: TensorInfo, path: Path) -> Tensor:
    data = torch.empty(info.end - info.begin, dtype=torch.uint8)
    view, done = memoryview(cast("bytearray", data.numpy())), 0
    file.seek(info.begin)
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise WeightsError(f"{path}: the file became shorter while it was read")
        done += count
    return data


def _borrowed(file: FileIO, info: TensorInfo, path: Path) -> Tensor:
    """The bytes of a tensor in a private mapping that goes when the tensor goes; read where they can't be mapped."""
    start = info.begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    if info.begin == info.end or info.begin % DTYPES[info.dtype].itemsize:
        return _read(file, info, path)
    try:
        pages = mmap.mmap(file.fileno(), info.end - start, offset=start, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # a file system without mappings, or a file that became shorter
        return _read(file, info, path)
    return torch.frombuffer(pages, dtype=torch.uint8, offset=info.begin - start)


def own(value: Tensor, device: torch.device) -> None:
    """Gives a weight memory of its own on `device`, in the layout that the device likes, unless it has that already."""
    copy = not value.untyped_storage().resizable()  # torch resizes only what it has allocated itself
    layout = memory_format(device.type) if value.ndim == CONVOLUTION else torch.preserve_format
    value.data = value.data.to(device, copy=copy, memory_format=layout)


def own_all(model: nn.Module, device: torch.device) -> None:
    """The same for all weights of a model, one by one, so that a mapped one is let go before the next is copied."""
    for value in [*model.parameters(), *model.buffers()]:
        own(value, device)


def build(
    make: Callable[[], nn.Module], tensors: Iterable[Mapping[str, Tensor]], source: str, *, extra_allowed: bool = False
) -> Any:
    """A model whose parameters are the tensors given; raises WeightsError as `fill` does."""
    return fill(hollow(make), tensors, source, extra_allowed=extra_allowed)


def fill(model: Any, tensors: Iterable[Mapping[str, Tensor]], source: str, *, extra_allowed: bool = False) -> Any:
    """Makes the tensors given the parameters of a hollow model; gives it back.

    Raises WeightsError naming the first tensor that is missing, of another shape or (unless allowed) not the model's.
    """
    own = dict(model.state_dict())
    given: dict[str, Tensor] = {}
    for part in tensors:
        given |= part
    rename_old_keys(model, given)
    check_tensors({name: tuple(value.shape) for name, value in own.items()}, given, source, extra_allowed=extra_allowed)
    model.load_state_dict({name: value for name, value in given.items() if name in own}, assign=True)
    return model.eval()


def memory_format(kind: str) -> torch.memory_format:
    """The layout that the convolutions of a kind of device like, and of the activations that they read.

    On CPUs channels-last is twice as fast; NVIDIA's tensor cores read it, and convert other weights at each call.
    MIOpen (AMD) and Metal convert the other way.
    """
    last = kind == "cpu" or (kind == "cuda" and torch.version.hip is None)
    return torch.channels_last if last else torch.contiguous_format


def check_tensors(
    own: Mapping[str, tuple[int, ...]], given: Mapping[str, Tensor], source: str, *, extra_allowed: bool
) -> None:
    """Raises WeightsError naming the first tensor that is missing, of another shape, or extra."""
    for name, shape in own.items():
        if name not in given:
            raise WeightsError(
                f"{source}: tensor {shown(name)} is missing: the file is damaged, incomplete or of another model"
            )
        if tuple(given[name].shape) != shape:
            raise WeightsError(f"{source}: tensor {shown(name)} has shape {tuple(given[name].shape)}, expected {shape}")
    if not extra_allowed:
        for name in given:
            if name not in own:
                raise WeightsError(f"{source}: tensor {shown(name)} is not expected")
