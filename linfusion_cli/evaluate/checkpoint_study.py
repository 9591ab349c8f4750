"""An evaluation of any model: images of a user's prompts, compared with the prompts and with reference images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from linfusion_cli.config.job import Job
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.errors import UsageError, option
from linfusion_cli.evaluate.bootstrap import Score, mean_score
from linfusion_cli.evaluate.clip_score import ClipScorer
from linfusion_cli.evaluate.image_distances import Features, distances, features_of
from linfusion_cli.evaluate.inception import image_files, inception_network
from linfusion_cli.evaluate.measures import band_energies, seam_score
from linfusion_cli.evaluate.repetition import repetition
from linfusion_cli.evaluate.samples import IMAGES, Way, image_path, preset_job, read_image
from linfusion_cli.evaluate.study import (
    DETAILS,
    PIXEL_COLUMNS,
    REPORT,
    Column,
    ImagesMade,
    StudyReport,
    detail_scores,
)
from linfusion_cli.evaluate.study_folder import about_images, claim_folder, image_seed
from linfusion_cli.events import Event, Note
from linfusion_cli.geometry import Size
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.render import check_ready, render
from linfusion_cli.system.device import Machine

REFERENCE = "reference"
COLUMNS = (
    Column("clip score", "CLIP score", 1, 2),
    Column("fid", "FID", 1, 2),
    Column("kid", "KID, 1/1000", 1000, 2),
    Column("patch fid", "FID of patches", 1, 2),
    Column("repetition", "repetition, %", 100, 1),
    *PIXEL_COLUMNS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStudy:
    """What to measure.

    folder:    of the images and the report
    prompts:   the user's, one image each
    size:      of the images, in pixels; None = the preset's own
    way:       how they are made: attention and LinFusion weights
    seed:      of images and patches
    clip:      a folder with a CLIP model, for the CLIP score
    reference: a folder of real images, for distances and as a row of its own
    inception: the file of Inception's weights; None = the cache of torch hub
    """

    folder: Path
    preset: str
    prompts: tuple[str, ...]
    size: Size | None = None
    way: Way = field(default_factory=Way)
    seed: int = 0
    clip: Path | None = None
    reference: Path | None = None
    inception: Path | None = None

    def image(self, index: int) -> Path:
        """Where an image is kept."""
        return image_path(self.folder / IMAGES, index)

    def job(self, index: int) -> Job:
        """The job of an image. Raises UsageError for a preset that can't be used."""
        job = preset_job(self.preset, self.way, self.prompts[index], image_seed(self.seed, index), self.size)
        return replace(job, output=self.image(index))

    @property
    def missing(self) -> list[int]:
        """The images that are not there yet."""
        return [index for index in range(len(self.prompts)) if not self.image(index).exists()]


def run_checkpoint_study(study: CheckpointStudy, machine: Machine) -> Iterator[str | ImagesMade | StudyReport]:
    """Makes the missing images, measures all, and writes report.json; yields notes, progress, and last the report.

    An interrupted image goes on at its kept step. Raises UsageError without prompts or for a folder of another study,
    WeightsError for a model that can't be used, and OutputError for a folder that can't be used.
    """
    if not study.prompts:
        raise UsageError("there are no prompts to evaluate. Name a file of them: ", option("prompt_file", "FILE"))
    job = study.job(0)
    scorer = None if study.clip is None else ClipScorer.load(study.clip, machine.device)
    network = None if study.reference is None else inception_network(study.inception, machine.device)
    references = () if study.reference is None else tuple(image_files(study.reference))
    if study.reference is not None and len(references) < 2:
        raise UsageError(f"{study.reference}: {len(references)} images in it; distances need two at least")
    if study.missing:
        check_ready(make_plan(job, machine))
    claim_folder(study.folder, about_images(job.size, study.preset, study.way, study.seed, list(study.prompts)))
    yield from _make(study, machine)
    yield "measuring the images"
    paths = [study.image(index) for index in range(len(study.prompts))]

    rows = _rows(study, (paths, references), scorer, network, machine.device)
    columns = tuple(column for column in COLUMNS if any(column.key in row for row in rows.values()))
    report = StudyReport(
        path=study.folder / REPORT, size=job.size, count=len(paths), seed=study.seed, rows=rows, columns=columns
    )
    report.write()
    yield f"{len(paths)} prompts, {len(references)} reference images; 95 % intervals"
    yield report


def _make(study: CheckpointStudy, machine: Machine) -> Iterator[str | ImagesMade]:
    """Makes the missing images with one load of the model; yields each note once."""
    (study.folder / IMAGES).mkdir(exist_ok=True)
    cache, told, total = ModelCache(), set[str](), len(study.prompts)
    for done, index in enumerate(missing := study.missing, total - len(study.missing) + 1):
        notes: list[str] = []

        def notify(event: Event, notes: list[str] = notes) -> None:
            notes += [event.text] if isinstance(event, Note) else []

        plan = make_plan(study.job(index), machine, keep_text_encoders=len(missing) > 1)
        render(plan, notify, cache)
        yield from (new := dict.fromkeys(note for note in (*plan.notes, *notes) if note not in told))
        told |= new.keys()
        yield ImagesMade(done, total)


def _rows(
    study: CheckpointStudy,
    paths: tuple[Sequence[Path], Sequence[Path]],
    scorer: ClipScorer | None,
    network: nn.Module | None,
    device: str,
) -> dict[str, dict[str, Score]]:
    """The scores of the study's images, and of the reference images where there are any. paths: of both."""
    clip: list[float] = []
    features: dict[str, list[Features]] = {IMAGES: [], REFERENCE: []}

    def see(name: str, image: Tensor, index: int) -> None:
        if network is not None:
            features[name].append(features_of(image, index, network, device, study.seed))
        if scorer is not None and name == IMAGES:
            clip.append(scorer.score(image, study.prompts[index]))

    ours, theirs = (measured(found, partial(see, name)) for name, found in zip(features, paths, strict=True))
    rows = {IMAGES: _scores(ours, theirs)}
    if clip:
        rows[IMAGES]["clip score"] = mean_score(clip)
    if theirs and len(study.prompts) > 1:
        rows[IMAGES] |= distances(*map(Features.joined, features.values()))
        rows[REFERENCE] = _scores(theirs, theirs)
    return rows


def measured(
    paths: Sequence[Path], see: Callable[[Tensor, int], None] = lambda image, index: None
) -> dict[str, list[float]]:
    """The measures of pixels alone, by name, one number an image.

    see: is shown each image, too, with its number, so that each file is read once
    """
    found: dict[str, list[float]] = {}
    for index, path in enumerate(paths):
        image = read_image(path)
        numbers = {"repetition": repetition(image), "seams": seam_score(image)}
        for name, number in {**numbers, **dict(zip(DETAILS, band_energies(image), strict=True))}.items():
            found.setdefault(name, []).append(number)
        see(image, index)
    return found


def _scores(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> dict[str, Score]:
    """Their means; details are in dB against `theirs`, 0 = as much, and left out where there are none."""
    means = {name: mean_score(values) for name, values in ours.items() if name not in DETAILS}
    return means | (detail_scores(ours, theirs) if theirs else {})
