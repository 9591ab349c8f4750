"""Images with captions: what to show at which position of a run, and how an image becomes a training square."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from linfusion_cli.errors import UsageError

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what a broken image raises in Pillow


class Source(Protocol):
    """Captioned images by number.

    blocks:  sizes of the parts in which reading here and there is cheap; their sum is the number of images
    skipped: what was left out on opening, a line each
    """

    blocks: tuple[int, ...]
    skipped: tuple[str, ...]

    def read(self, index: int) -> tuple[Image.Image, str]:
        """An image and its caption; raises one of UNREADABLE."""
        ...

    def name(self, index: int) -> str:
        """How a person finds image `index`."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """A batch: images (batch, 3, size, size) float32 in [-1, 1], captions, SD-XL's ids (batch, 6), names left out."""

    images: Tensor
    captions: list[str]
    ids: Tensor
    skipped: tuple[str, ...]


class Order:
    """Which image is shown at which position: every image once per epoch, blocks and then images shuffled.

    A function of seed and position alone, so a run that goes on needs no state of it.
    """

    def __init__(self, blocks: tuple[int, ...], seed: int) -> None:
        self.blocks, self.seed, self.count = blocks, seed, sum(blocks)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __call__(self, position: int) -> int:
        epoch, index = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return int(self._order[index])

    def _shuffled(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        rng = np.random.default_rng((self.seed, epoch))
        starts = np.concatenate([[0], np.cumsum(self.blocks)])
        return np.concatenate(
            [starts[block] + rng.permutation(self.blocks[block]) for block in rng.permutation(len(self.blocks))]
        )


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads batches of a source by their index, which is the position of the data."""

    source: Source
    order: Order
    batch_size: int
    size_px: int
    seed: int
    empty_captions: float  # share of captions that are left empty, for classifier-free guidance

    def read(self, index: int) -> Examples:
        """Batch `index`; broken images are replaced by the next ones and named.

        Raises UsageError if no image at all can be read.
        """
        squares, captions, ids, skipped = [], [], [], []
        for position in range(index * self.batch_size, (index + 1) * self.batch_size):
            image, caption, lost = self._readable(self.order(position))
            skipped += lost
            rng = random.Random(f"{self.seed}/{position}")
            square, numbers = to_square(image, self.size_px, rng)
            squares.append(square)
            ids.append(numbers)
            captions.append("" if rng.random() < self.empty_captions else caption)
        return Examples(torch.stack(squares), captions, torch.tensor(ids), tuple(skipped))

    def _readable(self, number: int) -> tuple[Image.Image, str, list[str]]:
        lost: list[str] = []
        for candidate in range(number, number + self.order.count):
            try:
                image, caption = self.source.read(candidate % self.order.count)
                return image, caption, lost
            except UNREADABLE as error:
                lost.append(f"{self.source.name(candidate % self.order.count)}: {type(error).__name__} {error}")
        raise UsageError(f"none of the {self.order.count} images can be read; the first: {lost[0]}")


def to_square(image: Image.Image, size_px: int, rng: random.Random) -> tuple[Tensor, list[int]]:
    """The shorter side scaled to size_px, a random square of it: (3, size, size) in [-1, 1].

    Also SD-XL's ids: original height and width, top and left of the crop, size twice.
    """
    image = ImageOps.exif_transpose(image).convert("RGB")
    original = [image.height, image.width]
    scale = size_px / min(image.size)
    if scale != 1:
        image = image.resize(
            (max(round(image.width * scale), size_px), max(round(image.height * scale), size_px)),
            Image.Resampling.LANCZOS,
        )
    top, left = rng.randint(0, image.height - size_px), rng.randint(0, image.width - size_px)
    levels = np.array(image.crop((left, top, left + size_px, top + size_px)))
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 127.5 - 1, [*original, top, left, size_px, size_px]


def prefetched(read: Callable[[int], Examples], indices: Iterable[int], threads: int) -> Iterator[Examples]:
    """The batches of `indices` in order, read ahead by threads (Pillow and torch let go of Python's lock)."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[Examples]] = []
        try:
            for index in indices:
                waiting.append(pool.submit(read, index))
                if len(waiting) > 2 * threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()
