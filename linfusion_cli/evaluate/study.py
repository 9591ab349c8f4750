"""An evaluation from start to end: prompts, images, renders to compare with, and scores with their intervals."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from linfusion_cli.errors import UsageError
from linfusion_cli.evaluate.attributes import ATTRIBUTES, Asked, fixed_prompts, truth_of
from linfusion_cli.evaluate.bootstrap import Score, distance_score, mean_score, standardised
from linfusion_cli.evaluate.classifier import INPUT_PX, Classifier
from linfusion_cli.evaluate.measures import band_energies, disc_errors, seam_score, texture, to_height
from linfusion_cli.evaluate.samples import IMAGES, Maker, Way, image_folder, image_path, keep, read_image
from linfusion_cli.evaluate.study_folder import about_images, claim_folder, image_seed
from linfusion_cli.files import write_atomically
from linfusion_cli.geometry import Size
from linfusion_cli.landscapes.render import render, to_levels
from linfusion_cli.landscapes.scene import sample_scene
from linfusion_cli.system.device import Machine

CROPS = 4  # per image, at full resolution
REPORT = "report.json"
DETAILS = ("detail 2-4 px", "detail 4-8 px", "detail 8-16 px")  # the octaves of band_energies


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to measure.

    folder:  of the images and the report
    size:    of the images, in pixels
    way:     how they are made
    count:   of the fixed prompts
    seed:    of prompts, images, renders and crops
    prompts: the user's own; empty = the fixed ones
    """

    folder: Path
    size: Size
    preset: str = "landscape"
    way: Way = field(default_factory=Way)
    count: int = 512
    seed: int = 0
    prompts: tuple[Asked, ...] = ()

    def asked(self) -> tuple[Asked, ...]:
        """The prompts. Raises UsageError if there are none, and for images that are smaller than a crop."""
        if min(self.size.width, self.size.height) < INPUT_PX:
            nearest = Size(max(self.size.width, INPUT_PX), max(self.size.height, INPUT_PX))
            raise UsageError(
                f"{self.size}: crops of {INPUT_PX}x{INPUT_PX} are measured. Nearest: {nearest}", parameter="size"
            )
        prompts = self.prompts or fixed_prompts(self.count, self.seed, self.size.width / self.size.height)
        if not prompts:
            raise UsageError("there are no prompts to evaluate. Name at least one")
        return prompts


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of a set of images.

    right:    attribute -> 1 or 0 for each image whose prompt states it: whether the classifier names that class
    one_body: 1 or 0 for each image whose prompt states a sun or a moon: whether there is exactly one
    discs:    disc_errors of these images
    seams:    seam_score of each image
    bands:    band_energies of each image, in dB
    features: (images, 64), the classifier's
    crops:    (images * CROPS, 30), the texture of the crops, those of an image in a row
    """

    right: dict[str, list[float]]
    one_body: list[float]
    discs: list[float]
    seams: list[float]
    bands: list[list[float]]
    features: Tensor
    crops: Tensor


@dataclass(frozen=True, slots=True)
class ImagesMade:
    """How many of a study's images are there."""

    kind: ClassVar[str] = "images"
    step: int
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """The progress for JSON."""
        return {"done": self.step, "total": self.steps}

    def __str__(self) -> str:
        return f"{self.step} of {self.steps} images"


@dataclass(frozen=True, slots=True)
class Column:
    """A score in tables: its name in a row, its heading, the factor that it is shown with, and the decimals."""

    key: str
    heading: str
    factor: float
    digits: int

    def text(self, row: Mapping[str, Score]) -> str:
        """The score of a row of scores; "-" if it has none."""
        return row[self.key].text(self.factor, self.digits) if self.key in row else "-"


PIXEL_COLUMNS = (
    Column("seams", "seams", 1, 2),
    Column("detail 2-4 px", "detail 2-4 px, dB", 1, 1),
    Column("detail 4-8 px", "detail 4-8 px, dB", 1, 1),
)
COLUMNS = (
    Column("fidelity", "prompt fidelity, %", 100, 1),
    Column("distance whole", "Fréchet, whole", 1, 2),
    Column("distance crops", "Fréchet, crops", 1, 2),
    Column("one body", "one sun or moon, %", 100, 1),
    Column("discs", "off round, %", 100, 1),
    *PIXEL_COLUMNS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """The scores of a study, as report.json holds them.

    path: of report.json
    rows: name -> score's name -> score, see scores(); "images" are the study's, "renders" fresh scenes
    columns: of the first table, in order
    """

    kind: ClassVar[str] = "evaluation"
    path: Path
    size: Size
    count: int
    seed: int
    rows: dict[str, dict[str, Score]]
    columns: tuple[Column, ...] = COLUMNS

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"path": str(self.path), **self._about(), "rows": self._rows()}

    def lines(self) -> Iterator[str]:
        """The lines of the Markdown tables."""
        return table(self.rows, self.columns)

    def write(self) -> None:
        """Writes it to `path`. Raises OSError if it can't be written."""
        write_atomically(self.path, json.dumps({**self._about(), "rows": self._rows()}, indent=1) + "\n")

    def _about(self) -> dict[str, Any]:
        return {"size": str(self.size), "count": self.count, "seed": self.seed}

    def _rows(self) -> dict[str, dict[str, Any]]:
        return {name: {key: asdict(score) for key, score in row.items()} for name, row in self.rows.items()}


def run_study(study: Study, machine: Machine, classifier: Classifier) -> Iterator[str | ImagesMade | StudyReport]:
    """Makes the missing images, measures all, and writes report.json; yields notes, progress, and last the report.

    Raises UsageError without prompts or for a folder of another study, WeightsError for a model that can't be used, and
    OutputError for a folder that can't be used.
    """
    asked = study.asked()
    classifier.to(machine.device)
    images = image_folder(study.folder)
    maker = Maker(study.preset, study.way, machine)
    prompts = [one.prompt for one in asked]
    seeds = [image_seed(study.seed, index) for index in range(len(asked))]
    claim_folder(study.folder, about_images(study.size, study.preset, study.way, study.seed, prompts))
    for done in keep(images, maker, prompts, seeds, study.size):
        if done % max(1, len(asked) // 20) == 0:
            yield ImagesMade(done, len(asked))
    ours = measure(
        (read_image(image_path(images, index)) for index in range(len(asked))), asked, classifier, study.seed
    )
    yield "rendering scenes to compare with"
    theirs, others = (_renders(study, asked, classifier, machine, name) for name in ("reference", "others"))
    rows = {IMAGES: scores(ours, theirs), "renders": scores(others, theirs)}
    if maker.plan("a lake", 0, study.size).stages[1:]:
        yield "enlarging base images to compare with"
        enlarged = Maker(study.preset, replace(study.way, lanczos=True), machine).make(prompts, seeds, study.size)
        rows["lanczos"] = scores(measure(enlarged, asked, classifier, study.seed), theirs)
    report = StudyReport(path=study.folder / REPORT, size=study.size, count=len(asked), seed=study.seed, rows=rows)
    report.write()
    yield f"{len(asked)} prompts; 95 % bootstrap intervals. Detail is against the renders: 0 dB = as much."
    yield report


def _renders(study: Study, asked: tuple[Asked, ...], classifier: Classifier, machine: Machine, name: str) -> Measured:
    """Measures renders of new scenes with the prompts' attributes and other shapes.

    For a user's prompt, which has no scene, the scene and its attributes are random. name: seeds the scenes.
    """
    rng = random.Random(f"{name}/{study.seed}")
    aspect = study.size.width / study.size.height
    scenes = [
        replace(one.scene, seed=rng.randrange(1 << 30)) if one.scene else sample_scene(rng, aspect) for one in asked
    ]
    truths = tuple(Asked(one.prompt, truth_of(scene)) for one, scene in zip(asked, scenes, strict=True))
    device = torch.device(machine.device)
    images = (
        to_levels(render([scene], study.size.height, study.size.width, device=device))[0].cpu() for scene in scenes
    )
    return measure(images, truths, classifier, study.seed)


def measure(images: Iterator[Tensor], asked: tuple[Asked, ...], classifier: Classifier, seed: int) -> Measured:
    """Measures images one at a time, so that only their small versions and crops stay in memory.

    images: uint8 (3, height, width), sides of 128 pixels at least, one for each of `asked`
    seed:   of the crops
    """
    small, crops, seams, bands, one_body, discs = [], [], [], [], [], []
    for index, (image, one) in enumerate(zip(images, asked, strict=True)):
        small.append(_square(image))
        crops += _crops(image, random.Random(f"crops/{seed}/{index}"))
        seams.append(seam_score(image))
        bands.append(band_energies(image))
        body = one.truth.get("body", "none")
        if body != "none":
            errors = disc_errors(image, body)
            one_body.append(float(len(errors) == 1))
            discs += errors
    whole = torch.stack(small)
    named = classifier.name(whole)
    right = {
        name: [
            float(found[name] == one.truth[name]) for found, one in zip(named, asked, strict=True) if name in one.truth
        ]
        for name in ATTRIBUTES
    }
    return Measured(right, one_body, discs, seams, bands, classifier.embed(whole), texture(torch.stack(crops)))


def _square(image: Tensor) -> Tensor:
    """The central square of an image, scaled to the classifier's size: uint8 (3, 128, 128)."""
    pixels = (
        to_height(image, INPUT_PX)
        if image.shape[2] >= image.shape[1]
        else to_height(image.transpose(1, 2), INPUT_PX).transpose(1, 2)
    )
    top, left = ((side - INPUT_PX) // 2 for side in pixels.shape[1:])
    return (pixels[:, top : top + INPUT_PX, left : left + INPUT_PX] * 255).round().to(torch.uint8)


def _crops(image: Tensor, rng: random.Random) -> list[Tensor]:
    """CROPS random squares (3, 128, 128) of an image at full resolution."""
    corners = [
        (rng.randint(0, image.shape[1] - INPUT_PX), rng.randint(0, image.shape[2] - INPUT_PX)) for _ in range(CROPS)
    ]
    return [image[:, top : top + INPUT_PX, left : left + INPUT_PX] for top, left in corners]


def scores(ours: Measured, theirs: Measured) -> dict[str, Score]:
    """The scores of a set of images against another, by name, with their intervals.

    Fidelities and "one body" are shares, 0 to 1; details are in dB against `theirs`, 0 = as much. Left out are the
    fidelities of attributes that no prompt states, and Fréchet distances without more rows than dimensions.
    """
    found = {f"fidelity {name}": mean_score(values) for name, values in ours.right.items() if values}
    complete = [values for values in ours.right.values() if len(values) == len(ours.seams)]
    if complete:
        found["fidelity"] = mean_score([sum(row) / len(row) for row in zip(*complete, strict=True)])
    for name, mine, reference, group in (
        ("whole", ours.features, theirs.features, 1),
        ("crops", ours.crops, theirs.crops, CROPS),
    ):
        if min(len(mine), len(reference)) > mine.shape[1]:
            found[f"distance {name}"] = distance_score(*standardised(mine, reference), group)
    if ours.one_body:
        found["one body"] = mean_score(ours.one_body)
    if ours.discs:
        found["discs"] = mean_score(ours.discs)
    found["seams"] = mean_score(ours.seams)
    by_octave = (dict(zip(DETAILS, map(list, zip(*one.bands, strict=True)), strict=True)) for one in (ours, theirs))
    return found | detail_scores(*by_octave)


def detail_scores(ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]]) -> dict[str, Score]:
    """The detail of images in dB against that of others; both hold the band_energies of each image, by octave."""
    levels = {name: sum(theirs[name]) / len(theirs[name]) for name in DETAILS}
    return {name: mean_score([number - level for number in ours[name]]) for name, level in levels.items()}


def table(rows: dict[str, dict[str, Score]], columns: tuple[Column, ...] = COLUMNS) -> Iterator[str]:
    """Yields the lines of two Markdown tables: the main scores, and the fidelity by attribute where there is any."""
    yield "| | " + " | ".join(column.heading for column in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        yield (f"| {name} | " + " | ".join(column.text(row) for column in columns) + " |")
    present = [name for name in ATTRIBUTES if any(f"fidelity {name}" in row for row in rows.values())]
    if not present:
        return
    yield ""
    yield "| fidelity, % | " + " | ".join(present) + " |"
    yield "|---" * (len(present) + 1) + "|"
    for name, row in rows.items():
        yield (
            f"| {name} | "
            + " | ".join(row[key].text(100) if (key := f"fidelity {each}") in row else "-" for each in present)
            + " |"
        )
