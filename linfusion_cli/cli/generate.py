"""`linfusion generate`: one prompt, one picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.job import Job, Request

EPILOG = """\b
Examples:
  linfusion generate "a mountain lake at dawn"
  linfusion generate "a mountain lake at dawn" --size 8k --seed 7 -o lake.png
  linfusion generate "a market in the rain" --preset sdxl-16k --max-memory 12GB
  linfusion generate "a mountain lake at dawn" --size 16k --dry-run
  linfusion generate --prompt-file prompt.txt --quiet    (in a crontab, where % is special)
  echo "a mountain lake at dawn" | linfusion generate - --json

\b
The same command with the same --seed makes the same picture. An interrupted one goes on where it was when the same
command is given again, with the same pixels: what is done is kept beside the picture, in .linfusion. --debug shows the traceback of an error.

\b
The path of the picture is the only line on stdout; everything else goes to stderr.
Exit codes: 0 done, 1 other error, 2 wrong use, 4 not enough memory, 66 weights, 74 file, 75 busy, 130 Ctrl-C, 143 SIGTERM.
"""


def complete_preset(incomplete: str) -> list[str]:
    """Preset names for the shell's completion."""
    from linfusion_cli.preset import preset_files

    return [name for name in preset_files() if name.startswith(incomplete)]


def complete_scheduler(incomplete: str) -> list[str]:
    """Scheduler names for the shell's completion."""
    from linfusion_cli.preset import SCHEDULERS

    return [name for name in SCHEDULERS if name.startswith(incomplete)]


def _complete_from(*words: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


Preset = Annotated[
    str, typer.Option("--preset", "-p", metavar="NAME", help="The model and its settings: a preset, or a .toml file.", autocompletion=complete_preset)
]
Pixels = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Pixels: 4k, 8k, 16k or WIDTHxHEIGHT in multiples of 8.", autocompletion=_complete_from("4k", "8k", "16k")),
]
SchedulerName = Annotated[str | None, typer.Option(metavar="NAME", help="The sampler: ddim, euler, dpmpp_2m, ...", autocompletion=complete_scheduler)]
Attention = Annotated[str | None, typer.Option(metavar="linear|softmax", help="Self-attention.", autocompletion=_complete_from("linear", "softmax"))]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="The PNG to write, or a folder. Fields such as {seed} and {slug} are filled in."),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=_complete_from("auto", "cpu", "cuda", "cuda:0", "mps"))
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto (as the preset says), float16, bfloat16 or float32.",
        autocompletion=_complete_from("auto", "float16", "bfloat16", "float32"),
    ),
]
Checkpoint = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="The most work that an interruption may cost; 0 keeps every step. Default: 30.", show_default=False)
]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Use no more than this, for example 6GB or 800MiB. Default: what is free.")]


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What to draw. - reads it from standard input.", show_default=False)] = None,
    prompt_file: Annotated[str | None, typer.Option("--prompt-file", metavar="FILE|-", help="Read the prompt from this file instead.")] = None,
    preset: Preset = "landscape",
    size: Pixels = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="0 to 4294967295. Drawn, and shown, if left out.")] = None,
    negative: Annotated[str | None, typer.Option("--negative", "--negative-prompt", "-n", metavar="TEXT", help="What not to draw.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Denoising steps of the first stage, 1 to 1000.")] = None,
    guidance: Annotated[float | None, typer.Option(metavar="X", help="How strongly the prompt pulls, 1 to 100. 1 = off, half the time.")] = None,
    scheduler: SchedulerName = None,
    output: Output = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    attention: Attention = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_memory: Memory = None,
    stages: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the picture of each stage here.")] = None,
    memory_log: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the memory of each phase here, as JSON lines.")] = None,
    checkpoint: Checkpoint = None,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on with what an interrupted run left; start over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, with its memory and time, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing if all goes well.")] = False,
) -> None:
    """Make one picture from a prompt."""
    from linfusion_cli.job import Request

    request = Request(
        prompt=read_prompt(prompt, prompt_file),
        preset=preset,
        negative_prompt=negative,
        seed=seed,
        size=size,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        attention=attention,
        device=device,
        dtype=dtype,
        output=None if output is None else _output_path(output),
        overwrite=overwrite,
        stages_folder=stages,
        memory_log=memory_log,
        max_memory=max_memory,
        checkpoint_seconds=checkpoint,
        restart=restart,
    )
    _make(_resolved(request), dry_run=dry_run, as_json=as_json, quiet=quiet)


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt from the command line, a file or standard input ("-").

    Raises UsageError if there is none, if there are two, or if the file can't be read as UTF-8.
    """
    if prompt is not None and prompt_file is not None:
        raise UsageError("give either a PROMPT or --prompt-file, not both")
    if prompt is None and prompt_file is None:
        raise UsageError('there is no prompt. Say what to draw, for example: linfusion generate "a mountain lake at dawn"')
    if prompt is not None and prompt != "-":
        return prompt
    place = prompt_file or "-"
    try:
        data = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
        return data.decode("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f'--prompt-file "{place}": it can\'t be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UsageError(f'--prompt-file "{place}": the prompt is not a text in UTF-8: see byte {error.start}') from error


def _output_path(text: str) -> Path:
    path = Path(text)
    if not text.strip():
        raise UsageError('--output "": name a PNG file or a folder, or leave it out')
    if text.endswith(("/", os.sep)) and not os.path.isdir(path):
        raise UsageError(f'--output "{text}": there is no such folder. Make it first: mkdir -p "{text}"')
    return path


def _resolved(request: Request) -> Job:
    """The job; where no seed was given, the interrupted one, so that the same command goes on with it."""
    from linfusion_cli.job import resolve

    job = resolve(request)
    from linfusion_cli.run import interrupted_seed

    seed = interrupted_seed(job)
    kept = job if seed is None else resolve(replace(request, seed=seed))
    return job if kept.output.exists() and not kept.overwrite else kept


def _make(job: Job, *, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Plans, shows the plan, renders and shows the result."""
    from linfusion_cli.cli.console import open_displays, show_plan
    from linfusion_cli.cli.text import safe
    from linfusion_cli.machine import find_machine
    from linfusion_cli.plan import make_plan

    plan = make_plan(job, find_machine(job.device))
    if dry_run:
        show_plan(plan, as_json=as_json)
        return
    from linfusion_cli.run import render

    with open_displays(plan, as_json=as_json, quiet=quiet) as displays:
        rendered = render(plan, displays.notify)
        displays.finish(rendered)
    if not as_json and not quiet:
        typer.echo(safe(rendered.path))
