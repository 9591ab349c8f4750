"""The paper's claims (arXiv 2409.02097) as one table: attentions by size, and the upscale without each of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from linfusion_cli.distill.variant_names import MIXERS, VARIANT_NAMES
from linfusion_cli.errors import Message, option
from linfusion_cli.evaluate.bootstrap import Score
from linfusion_cli.evaluate.classifier import Classifier
from linfusion_cli.evaluate.samples import IMAGES, OLD_IMAGES, Maker, Way
from linfusion_cli.evaluate.study import COLUMNS, REPORT, ImagesMade, Study, StudyReport, run_study
from linfusion_cli.geometry import Size
from linfusion_cli.json_files import read_json
from linfusion_cli.system.device import Machine

NEVER, ALWAYS = 2.0, 0.0  # cut-offs for the weight of the dilated branch, which is at most 1
TIMES = (1, 2, 4)  # sides of directly sampled images, in training sides
LARGE = 16  # side of progressively upscaled images, in training sides
FEWER = 8  # at that size the prompts are divided by this
# The model's own attentions; the distilled ones follow if their folders exist. The mixers (Mamba2, GLA, RWKV6) are
# compared without the upscale only, because they can't run in bands.
ATTENTIONS = {"softmax": Way(attention="softmax"), "linear": Way()}
DISTILLED = VARIANT_NAMES
# The progressive upscale, and without each of its parts. A skip residual's weight is a cosine to the power of
# skip_exponent: a huge one makes it 0.
UPSCALES = {
    "progressive": {},
    "progressive, no skip residual": {"skip_exponent": 1e9},
    "progressive, dilated branch always": {"dilated_cutoff": ALWAYS},
    "progressive, no dilated branch": {"dilated_cutoff": NEVER},
    "progressive, no low-pass": {"dilated_cutoff": ALWAYS, "lowpass_sigma": 1e-3},
}


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table: how images are made, their side in training sides, and the number of prompts."""

    name: str
    way: Way
    times: int
    count: int


def claims(variants: Path | None, count: int) -> Iterator[Claim | Message]:
    """Yields the rows in order, and a note for each distilled attention whose weights are missing.

    variants: the folder whose subfolders, named as the variants, hold the weights; None = "runs"
    count:    prompts per row; rows of large images have count // FEWER, at least 2
    """
    ways = dict(ATTENTIONS)
    for name in DISTILLED:
        folder = (variants or Path("runs")) / name
        if folder.is_dir():
            ways[f"{name}, distilled"] = Way(attention="linear" if name == "linear" else "variant", weights=str(folder))
        else:
            yield _missing(name, folder)
    for times in TIMES:
        for name, way in ways.items():
            yield Claim(f"{name}, direct", _direct(way), times, count)
    few = max(2, count // FEWER)
    for name, changes in UPSCALES.items():
        yield Claim(name, Way(upscale=changes), LARGE, few)
    for name in (name for name in ways if name != "linear" and not name.startswith(MIXERS)):
        yield Claim(f"progressive, {name}", ways[name], LARGE, few)
    yield Claim("linear, direct", _direct(Way()), LARGE, few)
    yield Claim("Lanczos enlargement", Way(lanczos=True), LARGE, few)


def _missing(name: str, folder: Path) -> Message:
    """The note that an attention is missing, with the command that distils it."""
    options = (
        part
        for key, value in (("data", "scenes"), ("variant", name), ("output", str(folder)))
        for part in (" ", option(key, value))
    )
    return Message(f"no distilled {name} attention in {folder}. Make it: linfusion distill builtin:landscape", *options)


def _direct(way: Way) -> Way:
    return Way(attention=way.attention, weights=way.weights, direct=True)


def run_claims(
    folder: Path, variants: Path | None, preset: str, count: int, seed: int, machine: Machine, classifier: Classifier
) -> Iterator[str | ImagesMade | ClaimsReport]:
    """Runs each study in its own subfolder of `folder`, or reads its report; yields notes, progress, and the table.

    variants, count: as in `claims`; seed: of prompts and images
    Raises what run_study raises.
    """
    side = Maker(preset, Way(attention="softmax"), machine).train_size_px
    rows: list[tuple[Claim, dict[str, Score]]] = []
    for claim in claims(variants, count):
        if isinstance(claim, Message):
            yield claim
            continue
        study = claim_study(claim, folder, preset, seed, side)
        if not (study.folder / REPORT).exists():
            yield f"{claim.name} at {study.size}, {claim.count} prompts"
            for item in run_study(study, machine, classifier):
                if not isinstance(item, StudyReport):
                    yield item
        rows.append((claim, read_row(study.folder / REPORT)))
    yield f"training side {side} px; 95 % bootstrap intervals; Fréchet distances need more than 64 images or crops"
    yield ClaimsReport(side, rows)


def claim_study(claim: Claim, folder: Path, preset: str, seed: int, train_size_px: int) -> Study:
    """The study of a claim, in its own subfolder of `folder`."""
    size = Size(train_size_px * claim.times, train_size_px * claim.times)
    own = folder / f"{claim.name.replace(', ', '-').replace(' ', '-').lower()}-{size}-{claim.count}"
    return Study(folder=own, size=size, preset=preset, way=claim.way, count=claim.count, seed=seed)


def read_row(path: Path) -> dict[str, Score]:
    """The row of the images in a report, also in one of 0.1.0: column -> score. Raises KeyError if it has none."""
    rows = read_json(path)["rows"]
    return {key: Score(**value) for key, value in rows[OLD_IMAGES if OLD_IMAGES in rows else IMAGES].items()}


@dataclass(frozen=True, slots=True)
class ClaimsReport:
    """The rows of the paper's claims: each with the scores of its images, see study.scores()."""

    kind: ClassVar[str] = "claims"
    train_size_px: int
    rows: list[tuple[Claim, dict[str, Score]]]

    def as_dict(self) -> dict[str, Any]:
        """The table for JSON."""
        rows = [
            {
                "name": claim.name,
                "side_px": claim.times * self.train_size_px,
                "count": claim.count,
                "scores": {key: asdict(score) for key, score in scores.items()},
            }
            for claim, scores in self.rows
        ]
        return {"train_size_px": self.train_size_px, "rows": rows}

    def lines(self) -> Iterator[str]:
        """The lines of a Markdown table."""
        return claims_table(self.rows)


def claims_table(rows: list[tuple[Claim, dict[str, Score]]]) -> Iterator[str]:
    """Yields the lines of a Markdown table: a row per claim, its size in training sides."""
    yield "| | size | prompts | " + " | ".join(column.heading for column in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 3) + "|"
    for claim, row in rows:
        values = " | ".join(column.text(row) for column in COLUMNS)
        yield f"| {claim.name} | {claim.times}× | {claim.count} | {values} |"
