"""What happens where memory runs out although the plan said otherwise: lower bands, another attempt, a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from linfusion_cli.errors import ran_out_of_memory

T = TypeVar("T")


class OutOfMemoryPolicy:
    """Attempts work, and halves the bands of every later sweep when a band does not fit."""

    def __init__(self, device: torch.device, tell: Callable[[str], None], release: Callable[[], None]) -> None:
        """tell: gets a note for the user; release: frees the buffers that can be filled again later."""
        self.tell = tell
        self._device, self._release = device, release
        self._halvings = 0

    def attempt(self, work: Callable[[], T], *, last: bool) -> T | None:
        """The result of `work`; None if memory ran out under it, after all buffers have been freed.

        The last attempt raises its error instead. Errors of other kinds are always raised.
        """
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if last or not ran_out_of_memory(error):
                raise
        self._release()  # here, where the error no longer holds tensors
        if self._device.type != "cpu":
            torch.accelerator.empty_cache()
        return None

    def band_height(self, planned: int) -> int:
        """The height of a band that was planned `planned` rows high: at least 1."""
        return max(1, planned >> self._halvings)

    def halve_bands(self) -> None:
        """Memory ran out under a band: every band is half as high from now on."""
        self._halvings += 1
        self.tell(f"memory ran out although it was planned: from here on bands are 1/{1 << self._halvings} as high")
