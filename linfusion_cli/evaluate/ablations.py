"""The paper's claims as one table: attentions across sizes, the progressive upscale and each of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.distill.variant_names import MIXERS, VARIANT_NAMES
from linfusion_cli.errors import Message, option
from linfusion_cli.evaluate.bootstrap import Score
from linfusion_cli.evaluate.classifier import Classifier
from linfusion_cli.evaluate.samples import Maker, Way
from linfusion_cli.evaluate.study import COLUMNS, REPORT, Study, run_study
from linfusion_cli.geometry import Size
from linfusion_cli.json_files import read_json
from linfusion_cli.system.device import Machine

NEVER, ALWAYS = 2.0, 0.0  # cut-offs of the dilated branch: its weight is at most 1
TIMES = (1, 2, 4)  # the training side, for direct sampling
LARGE = 16  # times the training side, where the progressive upscale is looked at
FEWER = 8  # so many times fewer prompts at that size
# The attentions of the model. Those distilled from its softmax attention follow, by the folder of their weights. Other
# mixers than linear attention are compared without the upscale alone: they can't be read in bands.
ATTENTIONS = {"softmax": Way(attention="softmax"), "linear": Way()}
DISTILLED = VARIANT_NAMES
# The progressive upscale and each of its parts left out. A skip residual's weight is a cosine to this power.
UPSCALES = {
    "progressive": {},
    "progressive, no skip residual": {"skip_exponent": 1e9},
    "progressive, dilated branch always": {"dilated_cutoff": ALWAYS},
    "progressive, no dilated branch": {"dilated_cutoff": NEVER},
    "progressive, no low-pass": {"dilated_cutoff": ALWAYS, "lowpass_sigma": 1e-3},
}


@dataclass(frozen=True, slots=True)
class Claim:
    """One row: a way to make images, how many times the training side, and how many prompts."""

    name: str
    way: Way
    times: int
    count: int


def claims(variants: Path | None, count: int) -> Iterator[Claim | Message]:
    """The rows in order, and notes on those that can't be had."""
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
    """A note with the command that makes the weights."""
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
) -> Iterator[str]:
    """Every study in a folder of its own, the finished ones taken as they are; yields progress, then the table."""
    side = Maker(preset, Way(attention="softmax"), machine).train_size_px
    rows: list[tuple[Claim, dict[str, Score]]] = []
    for claim in claims(variants, count):
        if isinstance(claim, Message):
            yield claim
            continue
        size = Size(side * claim.times, side * claim.times)
        study_folder = folder / f"{claim.name.replace(', ', '-').replace(' ', '-').lower()}-{size}-{claim.count}"
        if not (study_folder / REPORT).exists():
            yield f"{claim.name} at {size}, {claim.count} prompts"
            study = Study(folder=study_folder, size=size, preset=preset, way=claim.way, count=claim.count, seed=seed)
            yield from (line for line in run_study(study, machine, classifier) if line and not line.startswith("|"))
        rows.append((claim, read_row(study_folder / REPORT, "pictures")))
    yield from claims_table(rows, side)


def read_row(path: Path, name: str) -> dict[str, Score]:
    """One row of a report."""
    return {key: Score(**value) for key, value in read_json(path)["rows"][name].items()}


def claims_table(rows: list[tuple[Claim, dict[str, Score]]], side_px: int) -> Iterator[str]:
    """A Markdown table: a row per claim, its size as a multiple of the training side."""
    yield f"training side {side_px} px; 95 % bootstrap intervals; Fréchet distances need more than 64 images or crops"
    yield "| | size | prompts | " + " | ".join(title for _, title, _, _ in COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 3) + "|"
    for claim, row in rows:
        values = " | ".join(row[key].text(scale, digits) if key in row else "-" for key, _, scale, digits in COLUMNS)
        yield f"| {claim.name} | {claim.times}× | {claim.count} | {values} |"
