"""`linfusion generate`: one prompt, one image."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.rank_roles import followed, planned_for
from linfusion_cli.cli.shared_options import QuietFlag, RanksFlag
from linfusion_cli.cli.streams import announce
from linfusion_cli.errors import UsageError
from linfusion_cli.files import read_input

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.config.request import Request

MOST_PROMPT_BYTES = 1 << 20

EPILOG = """\b
Examples:
  linfusion generate "a mountain lake at dawn"
  linfusion generate "a mountain lake at dawn" --size 8k --seed 7 -o lake.png
  linfusion generate "a market in the rain" --preset sdxl-16k --max-memory 12GB
  linfusion generate "a mountain lake at dawn" --size 16k --dry-run
  linfusion generate "a knight" --model ~/models/dreamshaper.safetensors --lora armour.safetensors:0.8
  linfusion generate "a (red:1.3) house, [fog]" --prompt-weights
  linfusion generate "a house" -p sdxl-4k --controlnet diffusers/controlnet-canny-sdxl-1.0 --control-image edges.png
  linfusion generate "a house in snow" --init-image house.jpg --strength 0.5
  linfusion generate --prompt-file prompt.txt --quiet --log-file lake.log    (in a crontab, where % is special)
  echo "a mountain lake at dawn" | linfusion generate - --json

\b
The same command with the same --seed makes the same image. An interrupted one goes on where it was when the same
command is given again, with the same pixels: what is done is kept beside the image, in .linfusion. --debug shows the
traceback of an error.

\b
Brackets in a prompt are drawn as written. With --prompt-weights (word) is 1.1, (word:1.3) is 1.3, [word] is 0.91,
\\( is a bracket, and BREAK starts a new chunk.

\b
The path of the image is the only line on stdout; everything else goes to stderr.
Exit codes: 0 done, 1 other error, 2 wrong use, 4 not enough memory, 66 weights, 69 ranks, 74 file, 75 busy,
129 SIGHUP, 130 Ctrl-C, 141 nobody reads --json any more, 143 SIGTERM.
"""


@with_flags("generate")
def generate(
    *,
    prompt: Annotated[
        str | None, typer.Argument(help="What to draw. - reads it from standard input.", show_default=False)
    ] = None,
    prompt_file: Annotated[
        str | None, typer.Option("--prompt-file", metavar="FILE|-", help="Read the prompt from this file instead.")
    ] = None,
    inputs: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, with its memory and time, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    ranks: RanksFlag = 1,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
    flags: dict[str, Any],
) -> None:
    """Make one image from a prompt."""
    if followed(flags["device"], dry_run=dry_run):
        return
    request = request_of(read_prompt(prompt, prompt_file), {**inputs, **flags})
    with LogFile(log_file) as log:
        make(resolved(request), log, dry_run=dry_run, as_json=as_json, quiet=quiet, ranks=ranks)


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt from the command line, a file or standard input ("-").

    Raises UsageError if there is none, if there are two, or if the file can't be read as UTF-8.
    """
    if prompt is not None and prompt_file is not None:
        raise UsageError("give either a PROMPT or --prompt-file, not both")
    if prompt is None and prompt_file is None:
        raise UsageError(
            'there is no prompt. Say what to draw, for example: linfusion generate "a mountain lake at dawn"'
        )
    if prompt is not None and prompt != "-":
        return prompt
    source = prompt_file or "-"
    try:
        data = (
            sys.stdin.buffer.read(MOST_PROMPT_BYTES) if source == "-" else read_input(Path(source), MOST_PROMPT_BYTES)
        )
        return data.decode("utf-8-sig").strip()
    except OSError as error:
        raise UsageError(f'--prompt-file "{source}": it can\'t be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f'--prompt-file "{source}": the prompt is not a text in UTF-8: see byte {error.start}'
        ) from error


def resolved(request: Request) -> Job:
    """The job; where no seed was given, the interrupted one, so that the same command goes on with it."""
    from linfusion_cli.config.job import resolve

    job = resolve(request)
    from linfusion_cli.render import interrupted_seed

    seed = interrupted_seed(job)
    kept = job if seed is None else resolve(replace(request, seed=seed))
    return job if kept.output.exists() and not kept.overwrite else kept


def make(job: Job, log: LogFile, *, dry_run: bool, as_json: bool, quiet: bool, ranks: int = 1) -> None:
    """Plans, shows the plan, renders and shows the result. With several ranks the plan is one rank's."""
    from linfusion_cli.cli.render_display import open_displays, show_plan
    from linfusion_cli.cli.text import safe
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import obstacles

    with planned_for(job.device, ranks, dry_run=dry_run) as (machine, run):
        plan = make_plan(job, machine)
        if dry_run:
            show_plan(plan, obstacles(plan), as_json=as_json)
            return
        with open_displays(plan, as_json=as_json, quiet=quiet, log=log.stream) as displays:
            rendered = run(plan, displays.notify)
            displays.finish(rendered)
    log.add(f"made: {rendered.path}")
    if not as_json and not quiet:
        announce(safe(rendered.path))
