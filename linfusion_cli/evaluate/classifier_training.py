"""Trains the classifier on rendered scenes: whole scenes and windows into them, sharp and blurred."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.evaluate.attributes import ATTRIBUTES, truth_of
from linfusion_cli.evaluate.classifier import EXTENTS, INPUT_PX, Classifier, save_classifier
from linfusion_cli.landscapes.data import CPU, Effort
from linfusion_cli.landscapes.frame import View
from linfusion_cli.landscapes.render import random_view, render, to_levels
from linfusion_cli.landscapes.scene import Scene, sample_scene
from linfusion_cli.training.muon import muon_for
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings, WeightsWritten

BATCH = 64
WINDOW_SHARE = 0.35  # of the images are windows; the others are whole scenes
HELD_OUT_SEED = 987_654
ENLARGED = (1.0, 1.5, 2.0, 4.0)  # class of blur -> factor by which an image was enlarged


@dataclass(frozen=True, slots=True)
class Lessons:
    """Rendered images and what they show.

    images:  (count, 3, 128, 128) uint8
    classes: (count, attributes) int64, in the order of ATTRIBUTES; of the scene, also where a window does not show it
    extents: (count,) int64, minus log2 of the window's height in scene heights: 0 = the whole scene, 4 = 1/16
    """

    images: Tensor
    classes: Tensor
    extents: Tensor


def render_lessons(count: int, seed: int, window_share: float, device: torch.device = CPU) -> Lessons:
    """Renders `count` images; the same seed gives the same ones. window_share: share of windows, 0 to 1."""
    rng = random.Random(f"lessons/{seed}")
    images, classes, extents = [], [], []
    for start in range(0, count, BATCH):
        scenes = [sample_scene(rng) for _ in range(min(BATCH, count - start))]
        views = [_view(scene, rng, window_share) for scene in scenes]
        images.append(to_levels(render(scenes, INPUT_PX, INPUT_PX, views, device)))
        classes += [[ATTRIBUTES[name].index(value) for name, value in truth_of(scene).items()] for scene in scenes]
        extents += [min(EXTENTS - 1, round(-torch.tensor(view.extent).log2().item())) for view in views]
    return Lessons(torch.cat(images), torch.tensor(classes, device=device), torch.tensor(extents, device=device))


def _view(scene: Scene, rng: random.Random, window_share: float) -> View:
    return random_view(scene, rng) if rng.random() < window_share else View()


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The shares, 0 to 1, of fresh scenes whose attribute the classifier names, by attribute."""

    kind: ClassVar[str] = "accuracy"
    shares: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The shares for JSON."""
        return {"attributes": self.shares}

    def __str__(self) -> str:
        return "held out: " + "  ".join(f"{name} {100 * value:.1f} %" for name, value in self.shares.items())


def train_classifier(
    folder: Path, target: Path, schedule: Schedule, effort: Effort, count: int
) -> Iterator[str | Progress | HeldOut | WeightsWritten]:
    """Trains the classifier and writes its weights to `target`; yields notes, progress and the held-out accuracy.

    folder: of the run, which continues from the checkpoint there
    count:  rendered training images
    Raises what training.trainer.Run and its train raise.
    """
    device = effort.accelerator.device
    yield f"rendering {count} images"
    lessons = render_lessons(count, effort.seed, WINDOW_SHARE, device)
    torch.manual_seed(effort.seed)
    classifier = Classifier()
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = muon_for(classifier, outer=("heads", "blocks.0.down"))
    settings = Settings(
        identity={"part": "classifier", "count": count, **effort.identity()}, seed=effort.seed, decay=0.995
    )
    run = Run(folder, classifier, optimizer, schedule, settings, effort.accelerator)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.Generator().manual_seed(effort.seed * 1_000_003 + index)
        return loss_terms(classifier, lessons, torch.randint(count, (BATCH * effort.batch,), generator=draw), draw)

    yield from run.train(loss_of)
    classifier.load_state_dict(run.average.weights)
    classifier.eval()
    target.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = save_classifier(classifier, target)
    yield f"{target}: {size_bytes / 1e6:.2f} MB"
    yield WeightsWritten(str(target))
    yield HeldOut(accuracy(classifier, render_lessons(1024, HELD_OUT_SEED, 0.0, device)))


def loss_terms(
    classifier: Classifier, lessons: Lessons, chosen: Tensor, draw: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the heads' cross entropies, a scalar, and its terms by name.

    chosen: (batch,) int64, indices of lessons; at least one must be a whole scene
    draw:   a generator on the CPU, for the flip and the noise
    Attributes are trained on whole scenes only, because a window may not show them.
    """
    chosen = chosen.to(lessons.images.device)
    images = lessons.images[chosen].float() / 255
    blur = (
        torch.arange(len(chosen), device=images.device)
        % 8
        % len(ENLARGED)
        * (torch.arange(len(chosen), device=images.device) % 8 < 6)
    )
    for level, factor in enumerate(ENLARGED):
        images[blur == level] = enlarged(images[blur == level], factor)
    if torch.rand(1, generator=draw) < 0.5:
        images = images.flip(-1)
    # generated images have noise that renders lack
    images = images + 0.02 * torch.randn(images.shape, generator=draw).to(images.device)
    logits = classifier(images.contiguous(memory_format=torch.channels_last))
    whole = lessons.extents[chosen] == 0
    losses = [
        F.cross_entropy(logits[name][whole], lessons.classes[chosen][whole, axis])
        for axis, name in enumerate(ATTRIBUTES)
    ]
    attributes = torch.stack(losses).mean()
    extent = F.cross_entropy(logits["extent"], lessons.extents[chosen])
    sharpness = F.cross_entropy(logits["blur"], blur)
    return attributes + 0.2 * extent + 0.2 * sharpness, {
        "attributes": attributes.detach(),
        "extent": extent.detach(),
        "blur": sharpness.detach(),
    }


def enlarged(images: Tensor, factor: float) -> Tensor:
    """Blurs images (batch, 3, height, width) in [0, 1]: shrinks them by `factor`, 1 or more, and enlarges them back."""
    if factor == 1:
        return images
    small = F.interpolate(images, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=images.shape[-2:], mode="bicubic").clamp(0, 1)


def accuracy(classifier: Classifier, lessons: Lessons) -> dict[str, float]:
    """Share of images, 0 to 1, whose class is named right: by attribute, and their mean. Takes whole scenes."""
    named = classifier.name(lessons.images)
    right = {
        name: sum(
            ATTRIBUTES[name].index(found[name]) == int(lessons.classes[index, axis])
            for index, found in enumerate(named)
        )
        / len(named)
        for axis, name in enumerate(ATTRIBUTES)
    }
    return {**right, "mean": sum(right.values()) / len(right)}
