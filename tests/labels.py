"""Tensors without numbers that say that they lie on a CUDA card, and a count of what the work on them asks of it.

torch's FakeTensorMode computes shapes, number formats and devices alone. An operator that gets tensors of two devices
raises, as a card does. It needs a build of torch for CUDA, since only that has the operators of CUDA, and no card.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from bench.gpu.dispatches import WAITS, Dispatches, name_of, tensors_in
from linfusion_cli.engine.memory.async_copies import CudaStreams

CARD = torch.device("cuda:0")
LARGEST_INDEX = 1 << 31  # of 32 bits with a sign, with which many kernels count
BLOCK_BYTES = 512  # to which torch's allocator rounds up
MOST_FLASH_DIM = 256  # of a head, in torch's kernels that keep no scores
PRODUCTS = ("aten.convolution", "aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm")
TO_PAGEABLE = "a copy to pageable RAM"


class Watched(Dispatches):
    """Counts what is asked of the card inside it, over a FakeTensorMode.

    held_bytes, peak_bytes: of the card, by the storages that are alive
    pinned_bytes, pinned_peak_bytes: of page-locked RAM
    waited:     of the host for a result of the card, by operator
    formats:    number formats of what the card's convolutions and products take, by operator
    largest:    the most values of a tensor that an operator got or gave, by operator
    copied:     bytes between RAM and the card, by way
    """

    def __init__(self) -> None:
        super().__init__()
        self.held_bytes = self.peak_bytes = self.pinned_bytes = self.pinned_peak_bytes = 0
        self.waited: Counter[str] = Counter()
        self.formats: Counter[tuple[str, torch.dtype]] = Counter()
        self.largest: Counter[str] = Counter()
        self.copied: Counter[str] = Counter()
        self._alive: dict[int, Any] = {}
        self._pinned: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs, name = dict(kwargs or {}), name_of(function)
        given = tensors_in((args, kwargs))
        if name == "aten.is_pinned":
            return _key(given[0]) in self._pinned
        if name.startswith(WAITS) and getattr(given[0], "constant", None) is None:
            self.waited[name] += any(map(on_card, given))
            return _answer(name, given[0])
        if name == "aten.scaled_dot_product_attention" and given[0].shape[-1] <= MOST_FLASH_DIM:
            self.calls[name] += 1
            return given[0].new_empty(*given[0].shape[:-1], given[2].shape[-1])  # one kernel, which keeps no scores
        if _has_parts(function):  # what inference mode leaves whole: its parts are counted
            with self:
                return function.decompose(*args, **kwargs)
        pinned = bool(kwargs.pop("pin_memory", False))
        result = function(*args, **kwargs)
        made = tensors_in(result)
        for one in made:
            self._keep(one, pinned=pinned)
        if any(map(on_card, given)) or any(map(on_card, made)):
            self._see(function, args, kwargs, result)
        return result

    def reset_peak(self) -> None:
        """The peaks are of what comes from here on."""
        self.peak_bytes, self.pinned_peak_bytes = self.held_bytes, self.pinned_bytes

    def _see(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        name, given, made = name_of(function), tensors_in((args, kwargs)), tensors_in(result)
        if not self.count(function, args, kwargs, result):
            return
        if name in ("aten.copy_", "aten._to_copy"):
            self._see_copy(given[-1], made[0])
        if name in PRODUCTS:
            self.formats[name, given[-1].dtype] += 1
        self.largest[name] = max(self.largest[name], *(one.numel() for one in (*given, *made) if on_card(one)))

    def _see_copy(self, source: Tensor, target: Tensor) -> None:
        if source.device.type == target.device.type:
            return
        self.copied[f"{source.device.type} to {target.device.type}"] += source.nbytes
        if on_card(source) and _key(target) not in self._pinned:
            self.waited[TO_PAGEABLE] += 1

    def _keep(self, made: Tensor, *, pinned: bool) -> None:
        key = _key(made)
        if not (pinned or on_card(made)) or key in self._alive:
            return
        storage = made.untyped_storage()
        size = -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES
        if pinned:
            self._pinned[key] = size = 1 << (size - 1).bit_length()  # torch rounds it so
            self.pinned_bytes += size
            self.pinned_peak_bytes = max(self.pinned_peak_bytes, self.pinned_bytes)
        else:
            self.held_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        self._alive[key] = weakref.ref(storage, lambda _: self._freed(key, size))

    def _freed(self, key: int, size: int) -> None:
        del self._alive[key]
        if self._pinned.pop(key, None):
            self.pinned_bytes -= size
        else:
            self.held_bytes -= size


class LabelledStreams:
    """The copies of a card, done in the order in which they are asked for."""

    def download(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def upload(self, source: Tensor) -> tuple[Tensor, None]:
        return source.to(CARD, non_blocking=True), None

    def join(self, rows: Tensor, event: None) -> None:
        assert on_card(rows)

    def mark(self) -> None:
        pass

    def finish(self, event: None) -> None:
        pass


class _NoCard(FakeTensorMode):
    """Never asks the driver, although `_answers` tells of a card."""

    avoid_device_init = True  # type: ignore[assignment]


@contextmanager
def labelled(gigabytes: int = 24) -> Iterator[Watched]:
    """Inside, tensors have no numbers, and torch answers as with one card of that size; yields what is counted."""
    watched = Watched()
    patches = [
        *((torch.cuda, name, value) for name, value in _answers(watched, gigabytes).items()),
        (CudaStreams, "on", staticmethod(lambda device: LabelledStreams())),
        (torch.utils, "swap_tensors", _set_data),  # how modules move
        (torch, "from_numpy", lambda array: torch.empty(array.shape, dtype=torch.tensor(array.dtype.type(0)).dtype)),
        (nn.Linear, "reset_parameters", lambda module: None),  # which there is nothing to set to
        (nn.modules.conv._ConvNd, "reset_parameters", lambda module: None),
    ]
    with ExitStack() as stack:
        stack.enter_context(_NoCard())
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        for name, value in (("data", property(_data, _set_data)), ("numpy", _numpy)):
            stack.enter_context(mock.patch.object(FakeTensor, name, value, create=True))
        stack.enter_context(watched)
        yield watched


def _answers(watched: Watched, gigabytes: int) -> dict[str, Any]:
    """What is asked of torch.cuda."""
    total = gigabytes * 10**9
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda share, device=None: None,
        "reset_peak_memory_stats": lambda device=None: watched.reset_peak(),
        "max_memory_reserved": lambda device=None: watched.peak_bytes,
        "memory_reserved": lambda device=None: watched.held_bytes,
        "mem_get_info": lambda device=None: (total - watched.held_bytes, total),
    }


def _data(tensor: Any) -> Any:
    return torch._C.TensorBase.data.__get__(tensor)  # type: ignore[attr-defined]


def _set_data(tensor: Any, values: Any) -> None:
    """FakeTensor keeps the device beside the memory, and forgets it when a parameter gets other memory."""
    torch._C.TensorBase.data.__set__(tensor, values)  # type: ignore[attr-defined]
    tensor.fake_device = values.fake_device


def _numpy(tensor: Tensor) -> Any:
    """An array of the shape, which takes no memory."""
    assert tensor.device.type == "cpu", "numpy reads RAM"
    return np.broadcast_to(np.zeros((), str(tensor.dtype).removeprefix("torch.")), tensor.shape)


def _answer(name: str, value: Tensor) -> Any:
    """What the host gets from a card without numbers: that all is well, and of places the first."""
    if name == "aten.nonzero":
        return torch.zeros(1, value.ndim, dtype=torch.int64, device=value.device)
    if value.dtype == torch.bool or name in ("aten.is_nonzero", "aten.equal"):
        return True
    return 1.0 if value.is_floating_point() else 0


def on_card(tensor: Tensor) -> bool:
    """Whether the tensor says that it lies on the card."""
    return tensor.device.type == "cuda"


@cache
def _has_parts(function: Any) -> bool:
    return not name_of(function).startswith("prim") and bool(function._can_decompose())


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
