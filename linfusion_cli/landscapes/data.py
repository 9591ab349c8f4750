"""Renders training sets: images of whole scenes and of windows into them, with their captions."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor

from linfusion_cli.landscapes.disc_weights import disc_in_view
from linfusion_cli.landscapes.frame import View
from linfusion_cli.landscapes.render import random_view, render, to_levels
from linfusion_cli.landscapes.scene import caption, sample_scene

BATCH = 48
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Images of one size: how many, how much of each scene they show.

    windows: windows from the whole scene down to 1/16 of it; without it whole scenes
    halves:  each view is also drawn with half as many pixels, as the stage before an upscale sees it
    """

    height_px: int
    width_px: int
    count: int
    windows: bool
    halves: bool = False

    def times(self, factor: int) -> Bucket:
        """The same bucket with so many times the images."""
        return replace(self, count=self.count * factor)


@dataclass(frozen=True, slots=True)
class Effort:
    """Where a part of the recipe is trained and with how much.

    batch, scenes: how many times the recipe's own images per step and images in all (1 suits two CPU cores)
    """

    accelerator: Accelerator
    seed: int = 0
    batch: int = 1
    scenes: int = 1

    def identity(self) -> dict[str, int]:
        """What a checkpoint must share with a run to be gone on from."""
        return {"seed": self.seed, "batch": self.batch, "scenes": self.scenes}


@dataclass(frozen=True, slots=True)
class Images:
    """A rendered bucket: uint8 (count, 3, height, width), and for each a caption and the place of its sun or moon.

    halves: (count, 3, height / 2, width / 2), the same views drawn with half as many pixels, where the bucket has them
    discs:  (count, 3), centre x, centre y and radius in pixels; radius 0 = none
    """

    images: Tensor
    halves: Tensor | None
    discs: Tensor
    captions: tuple[str, ...]
    windows: bool


def render_bucket(bucket: Bucket, seed: int, device: torch.device) -> Iterator[Images]:
    """Yields the bucket in batches on `device`; the same seed gives the same images on any number of processes."""
    jobs = [(bucket, seed, start) for start in range(0, bucket.count, BATCH)]
    if device.type != "cpu":
        yield from (_render_batch(job, device) for job in jobs)
        return
    with multiprocessing.get_context("spawn").Pool(
        os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield from pool.imap(_render_batch, jobs)


def signed(images: Tensor) -> Tensor:
    """uint8 images (count, 3, height, width) in [-1, 1], float32 and channels-last, as an autoencoder takes them."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def gather(parts: Iterator[Images]) -> Images:
    """Joins batches of one bucket."""
    batches = list(parts)
    captions = tuple(text for part in batches for text in part.captions)
    images, discs = torch.cat([part.images for part in batches]), torch.cat([part.discs for part in batches])
    halves = [part.halves for part in batches if part.halves is not None]
    return Images(
        images, torch.cat(halves) if len(halves) == len(batches) else None, discs, captions, batches[0].windows
    )


def _render_batch(job: tuple[Bucket, int, int], device: torch.device = CPU) -> Images:
    bucket, seed, start = job
    rng = random.Random(f"{seed}/{bucket.height_px}x{bucket.width_px}/{bucket.windows}/{start}")
    aspect = bucket.width_px / bucket.height_px
    scenes = [
        sample_scene(rng, aspect if not bucket.windows else rng.choice((0.6, 1.0, 1.0, 1.8)))
        for _ in range(min(BATCH, bucket.count - start))
    ]
    views = [random_view(scene, rng, aspect=aspect) if bucket.windows else View() for scene in scenes]
    images = to_levels(render(scenes, bucket.height_px, bucket.width_px, views, device))
    halves = None
    if bucket.halves:
        halves = to_levels(render(scenes, bucket.height_px // 2, bucket.width_px // 2, views, device))
    discs = [disc_in_view(scene, view, bucket.height_px) for scene, view in zip(scenes, views, strict=True)]
    captions = tuple(caption(scene, rng) for scene in scenes)
    return Images(images, halves, torch.tensor(discs, device=images.device), captions, bucket.windows)
