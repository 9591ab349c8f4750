"""The flags that generate and upscale share: the model and what is put on top of it, how it draws, where the image goes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.job import Request


def complete_preset(incomplete: str) -> list[str]:
    """Preset names for the shell's completion."""
    from linfusion_cli.config.presets import preset_files

    return [name for name in preset_files() if name.startswith(incomplete)]


def complete_scheduler(incomplete: str) -> list[str]:
    """Scheduler names for the shell's completion."""
    from linfusion_cli.config.schedulers import SCHEDULERS

    return [name for name in SCHEDULERS if name.startswith(incomplete)]


def _one_of(*words: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


MODEL, EXTRAS, CONTROL = "The model", "On top of the model", "Images that guide"


class Flags:
    """Each attribute is a flag, named as the field of Request that it fills."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            metavar="NAME",
            help="A preset or a .toml file. Default: landscape, or that of --model.",
            autocompletion=complete_preset,
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Pixels: 4k, 8k, 16k or WIDTHxHEIGHT in multiples of 8.",
            autocompletion=_one_of("4k", "8k", "16k"),
        ),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="0 to 4294967295. Drawn, and shown, if left out.")] = (
        None
    )
    negative_prompt: Annotated[
        str | None, typer.Option("--negative", "--negative-prompt", "-n", metavar="TEXT", help="What not to draw.")
    ] = None
    steps: Annotated[int | None, typer.Option(metavar="N", help="Denoising steps of the first stage, 1 to 500.")] = None
    guidance: Annotated[
        float | None, typer.Option(metavar="X", help="How strongly the prompt pulls, 1 to 100. 1 = off, half the time.")
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The sampler: ddim, euler, dpmpp_2m, ...", autocompletion=complete_scheduler),
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The PNG to write, or a folder. Fields such as {seed} and {slug} are filled in.",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="A hub repository, a diffusers folder or a .safetensors file.", rich_help_panel=MODEL
        ),
    ] = None
    linfusion: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="Linear attention of your own, or none for softmax everywhere.", rich_help_panel=MODEL
        ),
    ] = None
    keep_projections: Annotated[
        bool | None,
        typer.Option(
            "--keep-projections/--no-keep-projections",
            help="Keep a fine-tune's own q, k, v and output.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None
    vae: Annotated[
        str | None, typer.Option("--vae", metavar="PLACE", help="Another autoencoder.", rich_help_panel=MODEL)
    ] = None
    prediction: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="auto, epsilon, v_prediction or v_prediction_zero_snr.", rich_help_panel=MODEL
        ),
    ] = None
    attention: Annotated[
        str | None,
        typer.Option(
            metavar="linear|softmax",
            help="Self-attention, of every stage.",
            autocompletion=_one_of("linear", "softmax"),
        ),
    ] = None
    base_attention: Annotated[
        str | None,
        typer.Option(
            metavar="linear|softmax",
            help="Self-attention of the first stage.",
            autocompletion=_one_of("linear", "softmax"),
        ),
    ] = None
    loras: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="PLACE[:WEIGHT]", help="A LoRA. Repeatable.", rich_help_panel=EXTRAS),
    ] = None
    textual_inversions: Annotated[
        list[str] | None,
        typer.Option(
            "--textual-inversion",
            metavar="PLACE[:TOKEN]",
            help="A word of your own. Repeatable.",
            rich_help_panel=EXTRAS,
        ),
    ] = None
    clip_skip: Annotated[
        int | None,
        typer.Option(metavar="N", help="Leave out the text encoder's last layers, 0 to 11.", rich_help_panel=EXTRAS),
    ] = None
    prompt_weights: Annotated[
        bool | None,
        typer.Option(
            "--prompt-weights/--no-prompt-weights",
            help="Read (word), (word:1.3) and [word] as weights, and prompts of any length.",
            show_default=False,
            rich_help_panel=EXTRAS,
        ),
    ] = None
    controlnets: Annotated[
        list[str] | None,
        typer.Option(
            "--controlnet",
            metavar="PLACE",
            help="A ControlNet. Repeatable, each with an image.",
            rich_help_panel=CONTROL,
        ),
    ] = None
    control_images: Annotated[
        list[Path] | None, typer.Option("--control-image", metavar="FILE", help="Its image.", rich_help_panel=CONTROL)
    ] = None
    control_scales: Annotated[
        list[float] | None,
        typer.Option(
            "--control-scale", metavar="X", help="How strongly it acts, 0 to 2. Default: 1.", rich_help_panel=CONTROL
        ),
    ] = None
    control_ends: Annotated[
        list[float] | None,
        typer.Option(
            "--control-end",
            metavar="X",
            help="Until which part of the steps, 0 to 1. Default: 1.",
            rich_help_panel=CONTROL,
        ),
    ] = None
    control_preprocess: Annotated[
        str | None, typer.Option(metavar="KIND", help="Make edges of it first: canny.", rich_help_panel=CONTROL)
    ] = None
    ip_adapter: Annotated[
        str | None, typer.Option("--ip-adapter", metavar="PLACE", help="Images as prompts.", rich_help_panel=CONTROL)
    ] = None
    ip_images: Annotated[
        list[Path] | None,
        typer.Option("--ip-image", metavar="FILE", help="Its image. Repeatable.", rich_help_panel=CONTROL),
    ] = None
    ip_scale: Annotated[
        float | None,
        typer.Option("--ip-scale", metavar="X", help="How strongly it acts, 0 to 2.", rich_help_panel=CONTROL),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, cuda, cuda:N or mps.",
            autocompletion=_one_of("auto", "cpu", "cuda", "cuda:0", "mps"),
        ),
    ] = "auto"
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto (as the preset says), float16, bfloat16 or float32.",
            autocompletion=_one_of("auto", "float16", "bfloat16", "float32"),
        ),
    ] = "auto"
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Use no more than this, for example 6GB or 800MiB. Default: what is free."),
    ] = None
    scratch_folder: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            metavar="FOLDER",
            help="Put here, while rendering, what does not fit into memory. Default: where the image goes.",
        ),
    ] = None
    stages_folder: Annotated[
        Path | None, typer.Option("--stages", metavar="FOLDER", help="Keep the image of each stage here.")
    ] = None
    memory_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the memory of each phase here, as JSON lines.")
    ] = None
    checkpoint_seconds: Annotated[
        float | None,
        typer.Option(
            "--checkpoint",
            metavar="SECONDS",
            help="The most work that an interruption may cost; 0 keeps every step. Default: 30.",
            show_default=False,
        ),
    ] = None
    restart: Annotated[
        bool, typer.Option("--restart", help="Do not go on with what an interrupted run left; start over.")
    ] = False


def with_flags(command: Callable[..., Any], without: frozenset[str] = frozenset()) -> Callable[..., Any]:
    """Gives a command the flags of Flags, in place of its parameter `flags`, which gets them as a dict by field of Request."""
    own = inspect.signature(command, eval_str=True)
    hints = {name: hint for name, hint in get_type_hints(Flags, include_extras=True).items() if name not in without}
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Flags, name), annotation=hint)
        for name, hint in hints.items()
    ]
    before = [parameter for parameter in own.parameters.values() if parameter.name != "flags"]

    def run(**values: Any) -> Any:
        return command(flags={name: values.pop(name) for name in hints}, **values)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in before]
    run.__signature__ = own.replace(parameters=[*parameters, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, *shared]}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def request_of(prompt: str, flags: dict[str, Any], **more: Any) -> Request:
    """The request of a command line; repeated flags become tuples."""
    from linfusion_cli.config.job import Request

    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in flags.items()}
    repeated = {name for name, hint in get_type_hints(Flags).items() if "list" in str(hint)}
    values |= {name: () for name in repeated if values[name] is None}
    values["output"] = None if values["output"] is None else output_path(values["output"])
    return Request(prompt=prompt, **values, **more)


def output_path(text: str) -> Path:
    """The file or folder of -o. Raises UsageError for an empty name, and for a folder that is not there."""
    path = Path(text)
    if not text.strip():
        raise UsageError('--output "": name a PNG file or a folder, or leave it out')
    if text.endswith(("/", os.sep)) and not os.path.isdir(path):
        raise UsageError(f'--output "{text}": there is no such folder. Make it first: mkdir -p "{text}"')
    return path
