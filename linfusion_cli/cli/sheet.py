"""`linfusion sheet`: a grid of images over two options, or a contact sheet of the images of a folder."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.flags import with_flags
from linfusion_cli.cli.logs import LogFile, LogFlag
from linfusion_cli.cli.long_work import YesFlag
from linfusion_cli.cli.rank_roles import refuse_launcher
from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.cli.streams import announce
from linfusion_cli.cli.wrapping import say
from linfusion_cli.errors import UsageError
from linfusion_cli.file_formats import format_of_ending

if TYPE_CHECKING:
    from linfusion_cli.batch.axes import Axis
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.prompt_files import Row
    from linfusion_cli.batch.task_list import Task
    from linfusion_cli.output.contact_sheet import Sheet

EPILOG = """\b
Examples:
  linfusion sheet "a mountain lake" --x seed=1..4 --size 512x512
  linfusion sheet "a mountain lake" --x seed=1..4 --y guidance=3,5,7.5 --size 512x512 -o grid.png
  linfusion sheet "a knight" -p sd15-4k --lora armour.safetensors --x lora-weight=0,0.5,1 --y steps=10,25 --size 512x512
  linfusion sheet "a lake" --x preset=landscape,mine.toml --size 512x512
  linfusion sheet images -o overview.png

\b
An axis is any option of a prompt list that decides pixels. The images of a grid are kept in a folder beside the sheet;
the same command makes what is missing. All have the same seed, unless an axis says otherwise.
"""


@with_flags("batch")
def sheet(
    *,
    subject: Annotated[
        str, typer.Argument(metavar="PROMPT|FOLDER", help="What to draw, or a folder of images.", show_default=False)
    ],
    x: Annotated[
        str | None, typer.Option("--x", metavar="OPTION=VALUES", help="The columns: seed=1..4, guidance=3,5,7.5.")
    ] = None,
    y: Annotated[str | None, typer.Option("--y", metavar="OPTION=VALUES", help="The rows.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The sheet, a PNG.")] = "sheet.png",
    cell: Annotated[
        int, typer.Option("--cell", metavar="PIXELS", min=16, max=4096, help="The longer side of a thumbnail.")
    ] = 512,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Where a grid's images are kept. Default: FILE-images."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Of all images. Default: the prompt's words decide.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the sheet if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")] = False,
    yes: YesFlag = False,
    quiet: QuietFlag = False,
    log_file: LogFlag = None,
    flags: dict[str, Any],
) -> int:
    """Make a grid of images over two options, or a contact sheet of a folder."""
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe
    from linfusion_cli.output.atomic_file import check_writable
    from linfusion_cli.output.contact_sheet import write_sheet
    from linfusion_cli.viewer.thumbnail import thumbnail

    refuse_launcher()

    def tell(note: str) -> None:
        if not quiet:
            say(f"note: {safe(note)}", err=True)

    path = _sheet_path(output)
    check_writable(path, 0, overwrite=overwrite)
    if x is None and y is None:
        drawn, code = contact_sheet(Path(subject), cell, skip=path), 0
    else:
        folder = images or path.with_name(f"{path.stem}-images")
        grid = _Grid(subject, x, y, seed, flags)
        code = grid.make(folder, cell, log_file, as_json=as_json, quiet=quiet, yes=yes)
        drawn = grid.sheet(folder, cell)
    write_sheet(drawn, path, partial(thumbnail, tell=tell), overwrite=overwrite)
    if as_json:
        emit(
            sys.stdout,
            "sheet",
            {"path": str(path), "images": sum(one is not None for row in drawn.rows for one in row)},
        )
    elif not quiet:
        announce(safe(path))
    return code


def _sheet_path(output: str) -> Path:
    """The file of the sheet, with its ending. Raises UsageError for that of another format."""
    path = Path(output)
    if path.suffix.lower() == ".png":
        return path
    if format_of_ending(path.suffix):
        raise UsageError(f'"{output}": a sheet is a PNG. Nearest: "{path.with_suffix(".png")}"', parameter="output")
    return path.with_name(f"{path.name}.png")


def contact_sheet(folder: Path, cell_px: int, *, skip: Path) -> Sheet:
    """The images of a folder in the order of their names. Raises UsageError where there is none."""
    from linfusion_cli.file_formats import ENDINGS
    from linfusion_cli.output.contact_sheet import Sheet, in_rows

    if not folder.is_dir():
        raise UsageError(
            f'"{folder}": there is no such folder. For a grid of a prompt give --x, --y or both, like --x seed=1..4'
        )
    endings = {*ENDINGS, ".gif", ".bmp"} - {".dzi"}
    files = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in endings and file.resolve() != skip.resolve()
    )
    if not files:
        raise UsageError(f'"{folder}": there is no image in it')
    rows = in_rows(files)
    names = [["" if file is None else file.stem for file in row] for row in rows]
    return Sheet(rows=rows, names=names, cell_px=cell_px)


class _Grid:
    """The images of a grid as the tasks of a batch: one row of a list for each cell."""

    def __init__(self, prompt: str, x: str | None, y: str | None, seed: int | None, flags: dict[str, Any]) -> None:
        """Raises UsageError for axes and values that can't be."""
        from hashlib import sha256

        from linfusion_cli.batch.axes import axis_of

        loras = tuple(flags.get("loras") or ())
        self.x, self.y = (None if text is None else axis_of(text, loras) for text in (x, y))
        if self.x and self.y and self.x.key == self.y.key:
            raise UsageError(f"both axes are {self.x.key}: name two options, or leave out --y")
        fixed = int(sha256(prompt.encode()).hexdigest()[:8], 16) if seed is None else seed
        self._common = {
            key: value for key, value in {**flags, "seed": fixed}.items() if value not in (None, "auto", [])
        }
        self._common = {key: str(value) if isinstance(value, Path) else value for key, value in self._common.items()}
        self._rows = [
            [self._row(prompt, loras, column, line) for column in _numbers(self.x)] for line in _numbers(self.y)
        ]
        self._cells: list[list[Task]] = []

    def _row(self, prompt: str, loras: Sequence[str], column: int, line: int) -> Row:
        from linfusion_cli.batch.prompt_files import Row

        chosen = [(axis, number) for axis, number in ((self.x, column), (self.y, line)) if axis is not None]
        values = {key: value for axis, number in chosen for key, value in axis.row(number, loras).items()}
        return Row(", ".join(axis.plain_labels[number] for axis, number in chosen), {"prompt": prompt, **values})

    def make(self, folder: Path, cell_px: int, log_file: Path | None, *, as_json: bool, quiet: bool, yes: bool) -> int:
        """Makes the images that are missing; the exit code of the first that failed, or 0."""
        from linfusion_cli.batch.journal import Journal
        from linfusion_cli.batch.runner import Options
        from linfusion_cli.batch.task_list import NAME_TEMPLATE
        from linfusion_cli.cli.batch import Listed, run_tasks
        from linfusion_cli.cli.task_start import begin

        journal = Journal(folder)
        self._common.pop("checkpoint_seconds", None)
        options = Options(**{key: self._common.pop(key, None) for key in ("ranks", "devices", "rank_shares")})
        tasks = self._planned(journal)
        _check_cells(tasks, len(self._cells[0]), len(self._cells), cell_px)
        listed = Listed([], self._common, NAME_TEMPLATE, None)
        begin(journal, tasks, options, yes=yes or as_json)
        with LogFile(log_file) as log:
            return run_tasks(journal, tasks, options, log, listed, as_json=as_json, quiet=quiet)

    def _planned(self, journal: Journal) -> list[Task]:
        """The tasks of all cells. Raises UsageError for values that can't be."""
        from linfusion_cli.batch.problem_report import refusal
        from linfusion_cli.batch.task_list import NAME_TEMPLATE, make_tasks
        from linfusion_cli.cli.spelling import told

        problems = list[str]()

        def tasks_of(rows: Sequence[Row]) -> list[Task]:
            return make_tasks(rows, self._common, NAME_TEMPLATE, journal.numbers, problems)

        tasks = tasks_of(list(itertools.chain(*self._rows)))
        if problems:
            raise UsageError(refusal([told(problem) for problem in problems]))
        known = {task.id: task for task in tasks}
        self._cells = [[known[tasks_of([row])[0].id] for row in rows] for rows in self._rows]
        return tasks

    def sheet(self, folder: Path, cell_px: int) -> Sheet:
        """The grid, with grey cells where an image is missing."""
        from linfusion_cli.batch.axes import Axis
        from linfusion_cli.batch.journal import Journal
        from linfusion_cli.output.contact_sheet import Sheet

        journal = Journal(folder)
        files = [[folder / journal.name_of(task) for task in row] for row in self._cells]
        rows = [[file if file.exists() else None for file in row] for row in files]
        plain = not all(task.kind.job.stores_prompt for row in self._cells for task in row)
        axes = [axis or Axis("", ()) for axis in (self.x, self.y)]
        labels = [axis.plain_labels if plain else axis.labels for axis in axes]
        return Sheet(rows=rows, columns=labels[0], lines=labels[1], cell_px=cell_px)


def _check_cells(tasks: Sequence[Task], columns: int, lines: int, cell_px: int) -> None:
    """Raises UsageError, before the images are made, for those that no sheet can show: too many, or tiles of a .dzi."""
    from linfusion_cli.geometry import Size
    from linfusion_cli.output.contact_sheet import check_area

    jobs = [task.kind.job for task in tasks]
    if any(job.file.format.name == "dzi" for job in jobs):
        raise UsageError('"dzi": a sheet shows no deep zoom. Nearest: "png"', parameter="format")
    shares = [min(1.0, cell_px / max(job.size.width, job.size.height)) for job in jobs]
    wide, high = (
        max(max(1, int(side * share)) for side, share in zip(sides, shares, strict=True))
        for sides in ([job.size.width for job in jobs], [job.size.height for job in jobs])
    )
    check_area(columns, lines, Size(wide, high))


def _numbers(axis: Axis | None) -> range:
    return range(1 if axis is None else len(axis.values))
