"""Plans an evaluation without making it: which images are missing, and their time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from linfusion_cli.errors import Message
from linfusion_cli.evaluate.ablations import claim_study, claims
from linfusion_cli.evaluate.checkpoint_study import CheckpointStudy
from linfusion_cli.evaluate.samples import Way, image_folder, image_path, plan_of, preset_job
from linfusion_cli.evaluate.study import REPORT, Study
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStudy:
    """The images of one study: of all, those that exist, and the seconds and memory of the others.

    seconds: of the missing images; renders and scores come on top
    """

    name: str
    size: str
    count: int
    existing: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The studies that an evaluation makes, in order."""

    kind: ClassVar[str] = "evaluation_plan"
    studies: tuple[PlannedStudy, ...]

    @property
    def seconds(self) -> float:
        """Those of all missing images."""
        return sum(study.seconds for study in self.studies)

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return {"studies": [asdict(study) for study in self.studies], "seconds": self.seconds}

    def lines(self) -> Iterator[str]:
        """A line for each study, and the sum of several."""
        for one in self.studies:
            name = f"{one.name}: " if one.name else ""
            there = f", {one.existing} of them exist" if one.existing else ""
            yield (
                f"{name}{one.count} images of {one.size}{there}: "
                f"about {one.seconds:.0f} s, at most {one.peak_bytes / 1e6:.0f} MB"
            )
        if len(self.studies) > 1:
            yield f"in all about {self.seconds:.0f} s for the images; renders and scores come on top"


def plan_study(study: Study, machine: Machine) -> Iterator[EvaluationPlan]:
    """The plan of one study. Raises UsageError without prompts, WeightsError for a model that is not here."""
    yield EvaluationPlan((_planned("", study, machine, _images_there(study)),))


def plan_checkpoint_study(study: CheckpointStudy, machine: Machine) -> Iterator[str | EvaluationPlan]:
    """The plan of a study of the user's prompts, with its notes. Raises as plan_study() does."""
    plan = make_plan(study.job(0), machine, keep_text_encoders=True)
    yield from plan.notes
    count = len(study.prompts)
    yield EvaluationPlan((_planned_from("", plan, count, count - len(study.missing)),))


def plan_claims(
    folder: Path, variants: Path | None, preset: str, count: int, seed: int, machine: Machine
) -> Iterator[str | EvaluationPlan]:
    """The notes and the plan of the paper's claims; parameters as in ablations.run_claims()."""
    side = preset_job(preset, Way(), "a lake", 0, None).settings.model.train_size_px
    found: list[PlannedStudy] = []
    for claim in claims(variants, count):
        if isinstance(claim, Message):
            yield claim
        else:
            study = claim_study(claim, folder, preset, seed, side)
            measured = (study.folder / REPORT).exists()  # then its scores are read, and no image is made
            existing = study.count if measured else _images_there(study)
            found.append(_planned(f"{claim.name} at {study.size}", study, machine, existing))
    yield EvaluationPlan(tuple(found))


def _planned(name: str, study: Study, machine: Machine, existing: int) -> PlannedStudy:
    asked = study.asked()
    plan = plan_of(study.preset, study.way, machine, asked[0].prompt, study.seed, study.size)
    return _planned_from(name, plan, len(asked), existing)


def _planned_from(name: str, plan: Plan, count: int, existing: int) -> PlannedStudy:
    """The images of a study, all like that of the plan."""
    loading = sum(phase.seconds for phase in plan.phases if phase.name == "load")
    missing = count - existing
    return PlannedStudy(
        name=name,
        size=str(plan.size),
        count=count,
        existing=existing,
        seconds=loading + (plan.seconds - loading) * missing if missing else 0.0,
        peak_bytes=plan.peak_bytes,
    )


def _images_there(study: Study) -> int:
    images = image_folder(study.folder)
    return sum(image_path(images, index).exists() for index in range(len(study.asked())))
