"""Batches of captioned images: their order in a run, and how an image is scaled and cropped to a training square."""

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
    """A data set of captioned images, numbered from 0.

    blocks:  numbers of images in its parts (a tar, a row group); random reads within one part are cheap. Their sum is
             the number of images
    skipped: one line for each image or file that was left out on opening, with the reason
    """

    blocks: tuple[int, ...]
    skipped: tuple[str, ...]

    def read(self, index: int) -> tuple[Image.Image, str]:
        """Image `index` and its caption. Raises one of UNREADABLE if it is broken."""
        ...

    def name(self, index: int) -> str:
        """Where a person finds image `index`: a path, or a file and a row."""
        ...


@dataclass(frozen=True, slots=True)
class Examples:
    """A batch of captioned images.

    images:   (batch, 3, size_px, size_px) float32 in [-1, 1]
    captions: one per image; an empty one trains the unconditional prediction
    ids:      (batch, 6) int64 in pixels, the size conditioning of SD-XL: see to_square
    skipped:  one line for each image that could not be read
    """

    images: Tensor
    captions: list[str]
    ids: Tensor
    skipped: tuple[str, ...]


class Order:
    """Gives the image for each position of a run: every image once per epoch, in an order that each epoch shuffles.

    The blocks are shuffled, then the images within each block, so that reads stay within one block for long. The order
    depends on the seed and the position alone: a checkpoint need not store it.

    blocks: numbers of images per block, at least one image in all
    """

    def __init__(self, blocks: tuple[int, ...], seed: int) -> None:
        self.blocks, self.seed, self.count = blocks, seed, sum(blocks)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def __call__(self, position: int) -> int:
        """The number of the image at a position, both counted from 0; positions go on through all epochs."""
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
    """Reads batches of a source by their index. A batch depends on its index and the seed alone.

    batch_size:     images per batch
    size_px:        side of the training squares
    empty_captions: share of captions that are replaced by empty ones, 0 to 1, for classifier-free guidance
                    (arXiv 2207.12598)
    """

    source: Source
    order: Order
    batch_size: int
    size_px: int
    seed: int
    empty_captions: float

    def read(self, index: int) -> Examples:
        """Batch `index`, counted from 0. The next image replaces a broken one, which `skipped` names.

        Raises UsageError if none of the source's images can be read.
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
    """Scales the shorter side to size_px and cuts out a random square.

    Returns the square, (3, size_px, size_px) float32 in [-1, 1], and the size conditioning of SD-XL in pixels
    (arXiv 2307.01952): original height and width, top and left of the crop, target height and width.
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
    """Yields the batches of `indices` in order; threads read up to 2 * threads + 1 of them ahead.

    Threads are enough, because Pillow and torch release the interpreter's lock. Raises what `read` raises.
    """
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
