"""Where a model's weights lie during a pass: all on the device, or each layer's only while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.loading.safetensors_loader import CPU, own
from linfusion_cli.engine.memory.async_copies import CudaStreams, Streams, to_device
from linfusion_cli.errors import ran_out_of_memory
from linfusion_cli.planning.memory_budget import WEIGHT_ARENA_BYTES, pinned_bytes

STREAMED = ("resnets", "attentions")  # the children of a UNet's blocks that hold nearly all of its weights
ALIGNMENT = 256  # bytes, between weights that share an arena
Copy = tuple[Tensor, Any]  # a weight on its way to the device, and the event after which it is there


class Arenas:
    """Page-locked RAM for many weights: torch rounds each block up to a power of two, so small blocks waste a third."""

    def __init__(self) -> None:
        self._open: list[tuple[Tensor, int]] = []  # each with the bytes that are taken of it

    def placed(self, data: Tensor) -> Tensor:
        """A copy in page-locked RAM, of the same layout; the tensor itself if it is there."""
        if data.device.type == "cpu" and data.is_pinned():
            return data
        size = -(-data.nbytes // ALIGNMENT) * ALIGNMENT
        arena, taken = self._arena_with(size)
        view = arena[taken : taken + data.nbytes].view(data.dtype).as_strided(data.size(), data.stride())
        return view.copy_(data)

    def _arena_with(self, size: int) -> tuple[Tensor, int]:
        for i, (arena, taken) in enumerate(self._open):
            if taken + size <= arena.nbytes:
                self._open[i] = (arena, taken + size)
                return arena, taken
        arena = torch.empty(max(WEIGHT_ARENA_BYTES, pinned_bytes(size)), dtype=torch.uint8, pin_memory=True)
        self._open.append((arena, size))
        return arena, 0


@dataclass(frozen=True, slots=True)
class Weights:
    """resident: all weights lie on the device; else those of layers lie in RAM, with a copy on it while they run.

    ahead: fetches the layer that runs next while one computes; None where the device has no streams beside it
    arenas: the page-locked RAM of all that is moved, one move after the other: each would begin another arena, beyond
            the plan
    """

    device: torch.device
    resident: bool
    ahead: WeightPrefetcher | None = None
    arenas: Arenas = field(default_factory=Arenas, compare=False, repr=False)

    @staticmethod
    def on(device: torch.device, *, resident: bool) -> Weights:
        """With the streams that the device has."""
        streamed = device.type == "cuda" and not resident
        return Weights(device, resident, WeightPrefetcher(CudaStreams.on(device)) if streamed else None)

    def move(self, unet: Any) -> Any:
        """Moves the weights of a UNet or ControlNet to where they belong, unless they are there; returns the model."""
        for name, value in [*unet.named_parameters(), *unet.named_buffers()]:
            if self.resident or set(STREAMED).isdisjoint(name.split(".")):
                own(value, self.device)
            elif self.device.type == "cuda":
                value.data = self.arenas.placed(value.data)
            else:
                own(value, CPU)
        return unet

    @contextmanager
    def lent(self, *modules: Any) -> Iterator[None]:
        """Inside, the modules' weights are on the device; afterwards, whatever happens, where they were."""
        kept: list[tuple[Tensor, Tensor]] = []
        try:
            for module in modules if not self.resident else ():
                own_values = _values(module)
                for value, data in zip(own_values, self._fetched(module), strict=True):
                    kept.append((value, value.data))
                    value.data = data
            yield
        finally:
            for value, data in kept:
                value.data = data

    @contextmanager
    def lent_in_turn(self, modules: Sequence[Any]) -> Iterator[Callable[[int, int], None]]:
        """Yields a function: need(first, last) puts modules first to last on the device, and those before them back.

        A module that is needed twice in a row is copied once.
        """
        held: dict[int, ExitStack] = {}

        def need(first: int, last: int) -> None:
            for i in [i for i in held if i < first]:
                held.pop(i).close()
            for i in range(first, last + 1):
                if i not in held:
                    held[i] = ExitStack()
                    held[i].enter_context(self.lent(modules[i]))

        try:
            yield need
        finally:
            for stack in held.values():
                stack.close()

    def _fetched(self, module: Any) -> list[Tensor]:
        """Copies of a module's weights on the device."""
        if self.ahead is not None:
            return self.ahead.take(module)
        return [to_device(value.data, self.device) for value in _values(module)]


@dataclass(slots=True)
class WeightPrefetcher:
    """Copies the weights of the next layer on a stream of their own while one computes.

    Which layer is next it knows from the pass before: every pass runs the same ones in the same order. Without memory
    for it, or after another layer than expected, weights are copied when they are needed.
    hits: layers whose weights were on the way when they were needed; copies: of layers, in all
    """

    streams: Streams
    hits: int = 0
    copies: int = 0
    _next: dict[Any, Any] = field(default_factory=dict)
    _last: Any = None
    _coming: tuple[Any, list[Copy]] | None = None

    def take(self, module: Any) -> list[Tensor]:
        """A module's weights on the device, parameters first, which the compute may use from here on."""
        expected, self._coming = self._coming, None
        if expected is not None and expected[0] is module:
            self.hits += 1
            copies = expected[1]
        else:
            copies = self._started(module)
        for values, event in copies:
            self.streams.join(values, event)
        if self._last is not None:
            self._next[self._last] = module
        self._last = module
        if (following := self._next.get(module)) is not None:
            self._look_ahead(following)
        return [values for values, _ in copies]

    def _look_ahead(self, module: Any) -> None:
        try:
            self._coming = module, self._started(module)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise

    def _started(self, module: Any) -> list[Copy]:
        self.copies += 1
        return [self.streams.upload(value.data) for value in _values(module)]


@dataclass(slots=True)
class WaitingWeights:
    """Page-locked RAM in which weights wait while a card is needed for something else, the same for every image.

    From pageable RAM a card gets them at a fraction of the link's rate, and the copy there is as slow.
    """

    _arenas: Arenas = field(default_factory=Arenas)
    _kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # by id: a parameter, and its RAM

    def take(self, module: Any) -> None:
        """Moves the weights of a module off its device."""
        for value in _values(module):
            if value.device.type == "cuda":
                value.data = self._filled(value)
            elif value.device.type != "cpu":
                own(value, CPU)

    def _filled(self, value: Tensor) -> Tensor:
        """The RAM of a parameter, with its numbers."""
        if id(value) in self._kept:
            return self._kept[id(value)][1].copy_(value.data)
        kept = self._arenas.placed(value.data)
        self._kept[id(value)] = value, kept
        return kept


def _values(module: Any) -> list[Tensor]:
    """Parameters and buffers, always in the same order."""
    return [*module.parameters(), *module.buffers()]
