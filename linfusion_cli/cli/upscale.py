"""`linfusion upscale`: enlarges the user's image by the stages of the progressive upscale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linfusion_cli.cli.flags import request_of, with_flags
from linfusion_cli.cli.generate import make, resolved
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.long_work import YesFlag
from linfusion_cli.cli.rank_roles import followed
from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.cli.spelling import flag
from linfusion_cli.errors import UsageError, option

EPILOG = """\b
Examples:
  linfusion upscale photo.jpg --preset sdxl-4k
  linfusion upscale photo.jpg "a mountain lake at dawn" --preset sdxl-4k --scale 4
  linfusion upscale photo.jpg "a mountain lake" --preset sd15-4k --size 8192x8192 --strength 0.3 -o large.png
  linfusion upscale photo.jpg --preset sdxl-4k --scale 8 --dry-run

\b
A prompt that says what is to be seen helps. --strength: 0.2 keeps close to the image, 0.5 draws much anew.
PNG, JPEG, TIFF, WebP, AVIF, GIF and BMP are read, and with extras JPEG XL and HEIC. Where the size has another shape
than the image, the middle is taken.
"""


@with_flags("upscale")
def upscale(
    *,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="The image, or - for standard input.", show_default=False)
    ],
    prompt: Annotated[str, typer.Argument(help="What it shows.", show_default=False)] = "",
    scale: Annotated[
        float | None, typer.Option(metavar="X", help="How many times as wide and high, instead of --size. Default: 2.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, with its memory and time, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    yes: YesFlag = False,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
    flags: dict[str, Any],
) -> None:
    """Make an image of yours larger, and draw the detail that it lacks."""
    if followed(flags["device"], dry_run=dry_run):
        return
    from linfusion_cli.config.resolve import USUAL_SCALE
    from linfusion_cli.config.size_options import SIZE_KEYS

    sizes = [key for key in ("size", *SIZE_KEYS) if flags[key] is not None]
    if scale is not None and sizes:
        raise UsageError(f"give either {flag(option(sizes[0]))} or --scale, not both")
    if not sizes:
        flags["size"] = _size(image, USUAL_SCALE if scale is None else scale, flags["input_range"])
    request = request_of(prompt, flags, upscale_image=image)
    with LogFile(log_file) as log:
        make([resolved(request)], log, dry_run=dry_run, as_json=as_json, quiet=quiet, yes=yes)


def _size(image: Path, scale: float, input_range: str | None) -> str:
    """The size of the image times `scale`, rounded to the nearest size that can be made."""
    from linfusion_cli.config.input_images import inspect_image, range_or_none

    if not 1 < scale <= 64:
        raise UsageError(f"--scale {scale:g}: write a number above 1, up to 64. Nearest: {2 if scale <= 1 else 64}")
    size = inspect_image(image, "upscale_image", range_or_none(input_range)).size
    return str(size.scaled(scale))
