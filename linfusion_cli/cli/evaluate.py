"""`linfusion evaluate`: measures prompt fidelity and quality of images on the procedural scenes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import complete_preset, typed_names
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.rank_roles import is_first_process
from linfusion_cli.cli.shared_options import JsonFlag, Precision
from linfusion_cli.cli.streams import announce
from linfusion_cli.cli.text import safe
from linfusion_cli.errors import UsageError
from linfusion_cli.files import read_input, write_atomically
from linfusion_cli.flag_words import dashed

if TYPE_CHECKING:
    from linfusion_cli.evaluate.classifier import Classifier

EPILOG = """\b
Examples:
  linfusion evaluate -o study --prompts 512
  linfusion evaluate -o study-2048 --prompts 32 --size 2048x2048
  linfusion evaluate -o study-softmax --attention softmax
  linfusion evaluate -o study-mine --weights my-linfusion
  linfusion evaluate --preset sd15-4k --prompt-file prompts.txt --clip clip-vit-large-patch14 -o study-sd15
  linfusion evaluate --images my-images --reference my-photos --inception inception.pth
  linfusion evaluate --claims -o claims --variants runs
  linfusion evaluate --claims -o claims --dry-run
  linfusion evaluate --train-classifier

\b
Images are made in -o and kept: the same command goes on where it stopped. The numbers are on the built-in model's own
domain, the procedural scenes: a classifier says whether an image shows what the prompt asks for, and its features give
Fréchet distances to renders. "renders" in the table are fresh scenes, the best that a model can reach.
Models of any other preset draw your own prompts: --clip measures how well the images go with them, --reference how far
they are from real ones (FID, KID, FID of patches); repetition, seams and detail need neither.
"""


PROMPTS, SCENE_SIZE = 512, "128x128"
COMPANIONS = {  # what else must be given for a flag to do something
    "train_classifier": {"minutes", "lessons", "precision"},
    "claims": {"variants", "plot"},
}
_OF_STUDIES = {"prompt_file", "size", "attention", "weights", "direct", "clip"}
USELESS = {  # what does nothing beside a flag
    "train_classifier": {*_OF_STUDIES, "prompts", "preset", "images", "reference", "inception", "claims"},
    "images": {*_OF_STUDIES, "output", "prompts", "preset", "seed", "claims"},
    "claims": {*_OF_STUDIES, "reference", "inception"},
}


class Attention(StrEnum):
    """The self-attention of the UNet."""

    linear = "linear"
    softmax = "softmax"


OutputFlag = Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Images and report.json.")]
PromptFileFlag = Annotated[
    Path | None,
    typer.Option("--prompt-file", "--prompts-file", metavar="FILE", help="Prompts of your own instead, one per line."),
]
PresetFlag = Annotated[
    str,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME",
        help="The preset whose model is measured.",
        autocompletion=complete_preset,
    ),
]
ClipFlag = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="A CLIP model (such as openai/clip-vit-large-patch14), for the CLIP score."),
]
WeightsFlag = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="LinFusion weights instead of the preset's, as linfusion distill writes them."),
]
DirectFlag = Annotated[
    bool, typer.Option("--direct", help="In one stage at the full size, without the progressive upscale.")
]
ImagesFlag = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Compare these images with --reference by Inception FID.")
]
InceptionFlag = Annotated[Path | None, typer.Option(metavar="FILE", help="Inception's weights from torch-fidelity.")]
ClaimsFlag = Annotated[bool, typer.Option("--claims", help="The paper's claims as a table: many studies in -o.")]
VariantsFlag = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="For --claims: what linfusion distill made, in FOLDER/linear, /unnormalised and /causal.",
    ),
]
PlotFlag = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="For --claims: draw distance, time and memory by size into this SVG."),
]
TrainClassifierFlag = Annotated[
    bool,
    typer.Option("--train-classifier", help="Train a classifier in -o (runs/classifier), instead of evaluating."),
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="Show which images are missing, with their time and memory, and stop.")
]
PrecisionFlag = Annotated[Precision, typer.Option(help="For --train-classifier: numbers of the forward pass.")]


def evaluate(
    context: typer.Context,
    output: OutputFlag = None,
    prompts: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="How many of the prompts. Default: 512 fixed ones, or the whole file."),
    ] = None,
    prompt_file: PromptFileFlag = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Pixels of each image. Default: 128x128 of scenes, else the preset's."),
    ] = None,
    preset: PresetFlag = "landscape",
    attention: Annotated[Attention, typer.Option(help="linear, or softmax: the teacher.")] = Attention.linear,
    weights: WeightsFlag = None,
    direct: DirectFlag = False,
    seed: Annotated[int, typer.Option(min=0, max=4000, help="Fixes prompts, images, renders and crops.")] = 0,
    images: ImagesFlag = None,
    reference: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Real images.")] = None,
    inception: InceptionFlag = None,
    clip: ClipFlag = None,
    claims: ClaimsFlag = False,
    variants: VariantsFlag = None,
    plot: PlotFlag = None,
    train_classifier: TrainClassifierFlag = False,
    minutes: Annotated[float, typer.Option(min=0.01, help="For --train-classifier: how long.")] = 15.0,
    lessons: Annotated[int, typer.Option(min=64, help="For --train-classifier: how many rendered images.")] = 10_000,
    precision: PrecisionFlag = Precision.no,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the table alone.")] = False,
    log_file: LogFlag = None,
) -> None:
    """Measure images: prompt fidelity, Fréchet distances, repetition, seams, sharpness."""
    from linfusion_cli.cli.training_display import TrainingDisplay
    from linfusion_cli.system.process_setup import quiet_libraries

    quiet_libraries()
    _refuse_lonely(context, train_classifier=train_classifier, claims=claims, images=images is not None)
    _refuse_unclear(output, images, reference, dry_run=dry_run, trains=train_classifier)
    compared = {"clip": clip, "reference": reference, "inception": inception}
    folders = {"weights": weights, "variants": variants, "images": images, "reference": reference, "clip": clip}
    _check_paths(output, preset, plot, folders)
    with LogFile(log_file) as log, TrainingDisplay(quiet=quiet, as_json=as_json, log=log) as display:
        if train_classifier:
            work = _train(device, precision.value, minutes, lessons, seed, output)
        elif output is None or images is not None:
            work = _compare(images, reference, inception, device)
        elif claims:
            work = _claims(output, variants, plot, preset, prompts or PROMPTS, seed, device, dry_run=dry_run)
        else:
            way = {"attention": attention.value, "weights": str(weights or ""), "direct": direct}
            about = {"folder": output, "preset": preset, "seed": seed}
            work = _study(prompt_file, prompts, size, way, about, compared, device, dry_run=dry_run)
        display.run(work)
    if train_classifier and not as_json and is_first_process():
        announce(safe(_classifier_file(output)))


def _refuse_lonely(context: typer.Context, **given: bool) -> None:
    """Raises UsageError for a flag that would do nothing: without another one, or beside one."""
    typed = typed_names(context)
    for key, names in COMPANIONS.items():
        if not given[key] and (alone := sorted(typed & names)):
            raise UsageError(f"{_flag(alone[0])} belongs to {_flag(key)}: give both")
    for key, names in USELESS.items():
        if given[key] and (useless := sorted(typed & names)):
            raise UsageError(f"{_flag(useless[0])} does nothing beside {_flag(key)}: leave one of them out")


def _flag(key: str) -> str:
    """`--train-classifier` for a parameter of that name."""
    return dashed(key.replace("_", "-"))


def _refuse_unclear(
    output: Path | None, images: Path | None, reference: Path | None, *, dry_run: bool, trains: bool
) -> None:
    """Raises UsageError where one folder of two is missing, or that of the images, and where nothing is planned."""
    if images is not None and reference is None:
        raise UsageError("--images and --reference belong together: name both folders")
    if dry_run and (trains or images is not None):
        raise UsageError("--dry-run plans the images of a study or of --claims; leave it out here")
    if images is None and output is None and not trains:
        raise UsageError("name a folder for the images: -o FOLDER")


def _draws_scenes(preset: str) -> bool:
    """Whether the preset's model is a landscape model, whose images a classifier can name."""
    from linfusion_cli.config.request import Request
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.planning.job_weights import JobWeights
    from linfusion_cli.planning.unknown_words import reads_landscape_words

    return reads_landscape_words(JobWeights.of(resolve(Request(prompt="a lake", preset=preset))))


def _refuse_for_scenes(compared: dict[str, Any]) -> None:
    """Raises UsageError for what the procedural scenes have no use for: they have a classifier and renders."""
    for name, path in compared.items():
        if path is not None:
            raise UsageError(
                f"--{name} belongs to --images, or to a preset of another model: the built-in model's images are "
                "compared with renders of its own scenes. Leave it out, or name a preset: --preset sd15-4k"
            )


def _check_paths(output: Path | None, preset: str, plot: Path | None, folders: Mapping[str, Path | None]) -> None:
    """Refuses wrong paths before torch is imported, which takes seconds.

    Raises UsageError for a preset that can't be used and for a folder that does not exist; OutputError for an output
    folder that can't be written.
    """
    from linfusion_cli.config.presets import load_preset
    from linfusion_cli.output.atomic_file import check_folder

    load_preset(preset)
    for name, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise UsageError(f'--{name} "{folder}": there is no such folder')
    if output is not None:
        check_folder(output, parameter="output")
    if plot is not None:
        check_folder(plot.parent, parameter="plot")


def _study(
    prompt_file: Path | None,
    count: int | None,
    size: str | None,
    way: dict[str, Any],
    about: dict[str, Any],
    compared: dict[str, Any],
    device: str,
    *,
    dry_run: bool,
) -> Iterable[object]:
    """A study of procedural scenes, or of the user's prompts by a model of any other preset.

    compared: what the latter takes to compare its images with
    """
    of_scenes = _draws_scenes(about["preset"])
    if of_scenes:
        _refuse_for_scenes(compared)
    elif prompt_file is None:
        raise UsageError(
            f"--preset {about['preset']}: the fixed prompts are of the built-in model's scenes. Name a file of your "
            "own, one prompt per line: --prompt-file FILE"
        )
    from linfusion_cli.evaluate import checkpoint_study, study
    from linfusion_cli.evaluate import dry_run as planned
    from linfusion_cli.evaluate.attributes import read_prompt
    from linfusion_cli.evaluate.samples import Way
    from linfusion_cli.geometry import parse_size
    from linfusion_cli.system.device import find_machine

    own = _read_prompts(prompt_file, count) if prompt_file else ()
    about, machine = {**about, "way": Way(**way)}, find_machine(device)
    if of_scenes:
        asked = tuple(map(read_prompt, own))
        scenes = study.Study(**about, count=count or PROMPTS, size=parse_size(size or SCENE_SIZE), prompts=asked)
        return planned.plan_study(scenes, machine) if dry_run else study.run_study(scenes, machine, _classifier())
    of_all = {**about, **compared, "size": parse_size(size) if size else None}
    given = checkpoint_study.CheckpointStudy(**of_all, prompts=own)
    if dry_run:
        return planned.plan_checkpoint_study(given, machine)
    return checkpoint_study.run_checkpoint_study(given, machine)


def _read_prompts(path: Path, count: int | None) -> tuple[str, ...]:
    """The prompts of a file, the first `count` of them. Raises UsageError if there are fewer, or none."""
    try:
        lines = [line.strip() for line in read_input(path, 16 << 20).decode("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f'--prompt-file "{path}": it can\'t be read ({error})') from error
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise UsageError(f'--prompt-file "{path}": there is no prompt in it. Write one per line')
    if count is not None and count > len(prompts):
        raise UsageError(f'--prompts {count}: "{path}" holds fewer. Nearest: --prompts {len(prompts)}')
    return prompts[:count]


def _compare(images: Path | None, reference: Path | None, inception: Path | None, device: str) -> Iterable[object]:
    if images is None or reference is None:
        raise UsageError("--images and --reference belong together: name both folders")
    from linfusion_cli.evaluate.inception import compare_folders
    from linfusion_cli.system.device import find_machine

    return compare_folders(images, reference, inception, find_machine(device).device)


def _claims(
    output: Path,
    variants: Path | None,
    plot: Path | None,
    preset: str,
    prompts: int,
    seed: int,
    device: str,
    *,
    dry_run: bool,
) -> Iterable[object]:
    """The table of the paper's claims, and its drawing."""
    from linfusion_cli.evaluate.ablations import ClaimsReport, run_claims
    from linfusion_cli.evaluate.dry_run import plan_claims
    from linfusion_cli.evaluate.size_plot import distance_curves, planned_curves, size_svg
    from linfusion_cli.system.device import find_machine

    machine = find_machine(device)
    if dry_run:
        yield from plan_claims(output, variants, preset, prompts, seed, machine)
        return
    for item in run_claims(output, variants, preset, prompts, seed, machine, _classifier()):
        if plot is not None and isinstance(item, ClaimsReport):
            curves = distance_curves(item.rows, item.train_size_px), *planned_curves(preset, machine)
            write_atomically(plot, size_svg(*curves))
        yield item


def _train(
    device: str, precision: str, minutes: float, lessons: int, seed: int, output: Path | None
) -> Iterable[object]:
    from linfusion_cli.evaluate.classifier_training import train_classifier
    from linfusion_cli.landscapes.data import Effort
    from linfusion_cli.training.accelerator import make_accelerator
    from linfusion_cli.training.schedule import Schedule

    target = _classifier_file(output)
    effort = Effort(make_accelerator(device, precision), seed)
    schedule = Schedule(1_000_000, 2e-3, minutes)
    return train_classifier(target.parent / "run", target, schedule, effort, lessons)


def _classifier_file(output: Path | None) -> Path:
    """Where --train-classifier puts the weights."""
    from linfusion_cli.models import CLASSIFIER

    return (output or Path("runs") / "classifier") / CLASSIFIER.name


def _classifier() -> Classifier:
    from linfusion_cli.evaluate.classifier import load_classifier
    from linfusion_cli.models import CLASSIFIER

    return load_classifier(CLASSIFIER)
