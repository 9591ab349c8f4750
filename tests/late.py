"""Stand-ins for the copy stream of a GPU: copies that happen as late as they may, or at once, or wrongly."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor


class Late:
    """Copies that happen only when somebody waits for them, in the order of the requests; until then rows are NaN."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], object]] = deque()
        self.asked = self.done = 0

    def download(self, source: Tensor, target: Tensor) -> int:
        return self._add(lambda: target.copy_(source))

    def upload(self, source: Tensor) -> tuple[Tensor, int]:
        rows = torch.full_like(source, torch.nan)
        return rows, self._add(lambda: rows.copy_(source))

    def join(self, rows: Tensor, event: int) -> None:
        self.finish(event)

    def mark(self) -> int:
        return 0  # what is computed here is done at once

    def finish(self, event: int) -> None:
        while self.done < event:
            self.queue.popleft()()
            self.done += 1

    def _add(self, copy: Callable[[], object]) -> int:
        self.queue.append(copy)
        self.asked += 1
        return self.asked


class Early(Late):
    """Copies that happen at once."""

    def _add(self, copy: Callable[[], object]) -> int:
        copy()
        return 0


class Slow(Early):
    """Remembers for which bands of the compute, counted from 1, the host has waited."""

    def __init__(self) -> None:
        super().__init__()
        self.marked = 0
        self.waited: list[int] = []

    def mark(self) -> int:
        self.marked += 1
        return self.marked

    def finish(self, event: int) -> None:
        self.waited += [event] if event else []


class NeverJoined(Late):
    """The compute does not wait."""

    def join(self, rows: Tensor, event: int) -> None:
        pass


class NeverFinished(Late):
    """The host does not wait."""

    def join(self, rows: Tensor, event: int) -> None:
        super().finish(event)

    def finish(self, event: int) -> None:
        pass


class Short(Late):
    """Memory runs out under every third copy that is made ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.fetched = False, 0

    def upload(self, source: Tensor) -> tuple[Tensor, int]:
        self.fetched += self.ahead
        if self.ahead and self.fetched % 3 == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().upload(source)
