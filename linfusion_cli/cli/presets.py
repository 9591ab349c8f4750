"""`linfusion presets`: lists presets, shows their settings, and checks preset files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.flags import complete_preset
from linfusion_cli.cli.help_panels import HelpCommand, HelpGroup
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.shared_options import JsonFlag
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.wrapping import columns_of, say
from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.preset_schema import Preset

EPILOG = """\b
Examples:
  linfusion presets list
  linfusion presets show sdxl-16k > my-sdxl.toml
  linfusion presets check my-sdxl.toml

\b
A preset of your own is a .toml file, which --preset FILE uses from where it is. In the folder that the command
presets list names it also gets a short name.
"""
LIST_EPILOG = """\b
Examples:
  linfusion presets list
"""
SHOW_EPILOG = """\b
Examples:
  linfusion presets show landscape
  linfusion presets show sdxl-16k > my-sdxl.toml
"""
CHECK_EPILOG = """\b
Examples:
  linfusion presets check my-sdxl.toml
"""

app = typer.Typer(
    cls=HelpGroup, no_args_is_help=True, rich_markup_mode=None, help="List, show and check presets.", epilog=EPILOG
)


@app.command("list", cls=HelpCommand, epilog=LIST_EPILOG)
def list_presets(as_json: JsonFlag = False) -> None:
    """List the presets with their sizes and what was measured."""
    from linfusion_cli.cli.text import safe, table
    from linfusion_cli.config.preset_files import user_folder

    listed = list(_listed())
    if as_json:
        for one in listed:
            emit(sys.stdout, "preset", asdict(one))
        return
    rows = [["name", "model", "size", "from", "measured", "what it is"]]
    for one in listed:
        what = f"broken: {one.error}" if one.error else one.description
        rows.append([safe(text) or "-" for text in (one.name, one.family, one.size, one.origin, one.measured, what)])
    for line in table(rows, left=6, columns=columns_of(sys.stdout), drop=("measured", "from", "model")):
        typer.echo(line)
    say(f"\nYour own presets go to {safe(user_folder())}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPreset:
    """A preset as the list shows it. origin: "linfusion" or "you". error: why it can't be used, "" if it can."""

    name: str
    path: str
    origin: str
    family: str = ""
    size: str = ""
    measured: str = ""
    description: str = ""
    error: str = ""


def _listed() -> Iterator[ListedPreset]:
    from linfusion_cli.config.preset_files import preset_files, shipped_folder
    from linfusion_cli.config.presets import load_preset

    for name, path in preset_files().items():
        origin = "linfusion" if path.parent == shipped_folder() else "you"
        try:
            settings = load_preset(name).settings
        except UsageError as error:  # one broken file must not hide the others
            yield ListedPreset(name=name, path=str(path), origin=origin, error=told(error))
            continue
        what, measured = head_comments(path)
        yield ListedPreset(
            name=name,
            path=str(path),
            origin=origin,
            family=settings.model.family,
            size=settings.output.size,
            measured=measured,
            description=what,
        )


@app.command("show", cls=HelpCommand, epilog=SHOW_EPILOG)
def show(
    name: Annotated[str, typer.Argument(help="A preset, or the path of a .toml file.", autocompletion=complete_preset)],
    as_json: JsonFlag = False,
) -> None:
    """Print every setting of a preset as TOML, with where each value comes from."""
    from linfusion_cli.cli.flags import source_text
    from linfusion_cli.cli.text import setting_lines
    from linfusion_cli.config.presets import load_preset

    loaded = load_preset(name)
    if as_json:
        sources = {key: source_text(source) for key, source in loaded.sources.items()}
        settings = loaded.settings.model_dump(mode="json")
        emit(sys.stdout, "preset_settings", {"name": name, "settings": settings, "sources": sources})
        return
    for line in setting_lines(loaded.settings, loaded.sources, columns_of(sys.stdout)):
        typer.echo(line)


@app.command("check", cls=HelpCommand, epilog=CHECK_EPILOG)
def check(
    file: Annotated[str, typer.Argument(help="The path of a .toml file, or a preset.")], as_json: JsonFlag = False
) -> None:
    """Say whether a preset can be used, and if not, which line or which of its weights is wrong."""
    from linfusion_cli.cli.text import safe
    from linfusion_cli.config.model_names import configured_folders, load_named
    from linfusion_cli.config.request import Request
    from linfusion_cli.config.required_weights import joined, lost_weights, missing_weights
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.planning.input_check import check_inputs
    from linfusion_cli.planning.job_weights import JobWeights

    folders = configured_folders()
    settings = load_named(file, folders).settings
    if lost := lost_weights(settings):
        raise joined(lost)
    with _stand_in(settings) as images:
        controls, ip_images = images
        request = Request(
            prompt="check", preset=file, models=folders.roots, seed=0, control_images=controls, ip_images=ip_images
        )
        job = resolve(request)
    check_inputs(job, JobWeights.of(job))
    own = sum(source != "defaults.toml" for source in job.sources.values())
    notes = [told(away.message) for away in missing_weights(job.settings, job.preset, frozenset())]
    if as_json:
        counts = {"own_settings": own, "settings": len(job.sources)}
        emit(sys.stdout, "preset_check", {"path": file, "size": str(job.size), **counts, "notes": notes})
        return
    say(
        f"{safe(file)}: good. {own} of {len(job.sources)} settings are its own; "
        f"{job.size} pixels, like {safe(job.output.name)}"
    )
    for note in notes:
        say(f"note: {safe(note)}")


@contextmanager
def _stand_in(settings: Preset) -> Iterator[tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """An image in place of those that ControlNets and an IP-Adapter of the preset will get."""
    from PIL import Image

    extras = settings.extras
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.png"
        if extras.controlnets or extras.ip_adapter:
            Image.new("RGB", (64, 64)).save(path)
        yield (path,) * len(extras.controlnets), (path,) * bool(extras.ip_adapter)


def head_comments(path: Path) -> tuple[str, str]:
    """What a preset says about itself in the comments at its top: the first line, and what follows "Measured:"."""
    comments: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# ").rstrip())
    measured = [line.removeprefix("Measured:").strip() for line in comments if line.startswith("Measured:")]
    return comments[0] if comments else "", measured[0] if measured else ""
