"""An evaluation of any model: images of a user's prompts, compared with the prompts and with reference images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from linfusion_cli.config.job import Job
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.errors import UsageError, option
from linfusion_cli.evaluate.bootstrap import Score, mean_score
from linfusion_cli.evaluate.clip_score import ClipScorer
from linfusion_cli.evaluate.image_distances import distances, features_of
from linfusion_cli.evaluate.inception import image_files, inception_network
from linfusion_cli.evaluate.measures import band_energies, seam_score
from linfusion_cli.evaluate.repetition import repetition
from linfusion_cli.evaluate.samples import IMAGES, Way, image_path, preset_job, read_image
from linfusion_cli.evaluate.study import REPORT, Column, ImagesMade, StudyReport
from linfusion_cli.evaluate.study_folder import claim_folder
from linfusion_cli.events import Event, Note
from linfusion_cli.geometry import Size
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.render import check_ready, render
from linfusion_cli.system.device import Machine

REFERENCE = "reference"
OCTAVES = ("2-4 px", "4-8 px", "8-16 px")
COLUMNS = (
    Column("clip score", "CLIP score", 1, 2),
    Column("fid", "FID", 1, 2),
    Column("kid", "KID, 1/1000", 1000, 2),
    Column("patch fid", "FID of patches", 1, 2),
    Column("repetition", "repetition, %", 100, 1),
    Column("seams", "seams", 1, 2),
    Column("detail 2-4 px", "detail 2-4 px, dB", 1, 1),
    Column("detail 4-8 px", "detail 4-8 px, dB", 1, 1),
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
        job = preset_job(self.preset, self.way, self.prompts[index], self.seed * 1_000_000 + index, self.size)
        return replace(job, output=self.image(index))

    @property
    def missing(self) -> list[int]:
        """The images that are not there yet."""
        return [index for index in range(len(self.prompts)) if not self.image(index).exists()]

    def about(self, job: Job) -> dict[str, Any]:
        """What decides the images, as the folder keeps it."""
        settings = {"size": str(job.size), "preset": self.preset, "way": asdict(self.way), "seed": self.seed}
        return {**settings, "prompts": list(self.prompts)}


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
    claim_folder(study.folder, study.about(job))
    yield from _make(study, machine)
    yield "measuring the images"
    paths = [study.image(index) for index in range(len(study.prompts))]
    ours, theirs = measured(paths), measured(list(references)) if references else {}
    rows = {IMAGES: _scores(ours, theirs)}
    if scorer is not None:
        clip = scorer.scores((read_image(path) for path in paths), study.prompts)
        rows[IMAGES]["clip score"] = mean_score(clip)
    if network is not None and len(paths) > 1:
        mine, others = (
            features_of((read_image(path) for path in found), network, machine.device, study.seed)
            for found in (paths, references)
        )
        rows[IMAGES] |= distances(mine, others)
        rows[REFERENCE] = _scores(theirs, theirs)
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


def measured(paths: list[Path]) -> dict[str, list[float]]:
    """The measures of pixels alone, by name, one number an image. Images are read one at a time."""
    found: dict[str, list[float]] = {}
    for path in paths:
        image = read_image(path)
        numbers = {"repetition": repetition(image), "seams": seam_score(image)}
        numbers |= {f"detail {name}": level for name, level in zip(OCTAVES, band_energies(image), strict=True)}
        for name, number in numbers.items():
            found.setdefault(name, []).append(number)
    return found


def _scores(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> dict[str, Score]:
    """Their means; details are in dB against `theirs`, 0 = as much, and left out where there are none."""
    found = {name: mean_score(values) for name, values in ours.items() if not name.startswith("detail")}
    for name in (name for name in theirs if name.startswith("detail")):
        level = sum(theirs[name]) / len(theirs[name])
        found[name] = mean_score([value - level for value in ours[name]])
    return found
