"""Several images of one prompt: their seeds, their file names, and which of them exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.config.option_rows import RANDOM_SEED
from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.config.request import Request

CountFlag = Annotated[
    str | None,
    typer.Option("--count", "-n", metavar="N", help="Make so many images, with seeds one after the other. Default: 1."),
]
SeedsFlag = Annotated[
    str | None, typer.Option("--seeds", metavar="A..B", help="An image for each of these seeds: 1..4 or 1,5,20..29.")
]
FIELDS_THAT_DIFFER = ("{seed", "{id", "{index")


@dataclass(frozen=True, slots=True)
class Series:
    """The seeds of several images of one prompt: a count with the first seed, or a list of seeds."""

    count: int = 1
    seeds: tuple[int, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether nobody asked for several."""
        return self.count == 1 and not self.seeds


def series_of(count: str | None, seeds: str | None, seed: int | None) -> Series:
    """The series that --count, --seeds and --seed ask for. Raises UsageError for values that don't fit together."""
    from linfusion_cli.batch.row_values import MOST_COUNT, seeds_of

    if seeds is not None:
        for other in [name for name, given in (("--seed", seed), ("--count", count)) if given is not None]:
            raise UsageError(f"--seeds names every seed: leave out {other}, or --seeds")
        found = tuple(dict.fromkeys(seeds_of(seeds)))
        if len(found) > MOST_COUNT:
            raise UsageError(f'--seeds "{seeds}": {len(found)} images are too many: at most {MOST_COUNT:,}')
        return Series(len(found), found)
    return Series(1 if count is None else _count(count, MOST_COUNT))


def _count(text: str, most: int) -> int:
    """Raises UsageError for what is no number of images; -n was short for --negative once."""
    import shlex

    allowed = f"write a whole number from 1 to {most}"
    try:
        number = int(text)
    except ValueError as error:
        raise UsageError(
            f'-n "{text:.60}": -n is the number of images, {allowed}. '
            f"For what not to draw give --negative {shlex.quote(f'{text:.60}')}"
        ) from error
    if not 1 <= number <= most:
        raise UsageError(f"--count {number}: {allowed}. Nearest: {min(max(number, 1), most)}")
    return number


@contextmanager
def jobs_of(request: Request, series: Series, *, remember: bool) -> Iterator[list[Job]]:
    """The jobs of a series, each with a file of its own.

    Where no seed is given, the first one is drawn, and remembered until the block ends well: the same command goes on
    with the same seeds. remember: False for a dry run, which leaves nothing.
    Raises UsageError, and BusyError while another process makes the same series.
    """
    from linfusion_cli.config.job_hash import unseeded_hash
    from linfusion_cli.config.resolve import resolve

    request = replace(request, seed=None if request.seed == RANDOM_SEED else request.seed)
    if series.count > 1:
        request = replace(request, output=_told_apart(request.output))
    if series.seeds or request.seed is not None:
        first = 0 if request.seed is None else request.seed
        yield _jobs(request, series.seeds or range(first, first + series.count))
        return
    from hashlib import sha256

    from linfusion_cli.output.checkpoint_folder import CheckpointFolder, kept_seed

    job = resolve(replace(request, seed=None))
    key = sha256(f"{series.count} images of {unseeded_hash(job)} as {_pattern(request)}".encode()).hexdigest()
    kept = kept_seed(job.output.parent, key)
    first = min(job.seed, _last_first(series.count)) if kept is None or request.restart else kept
    if not remember:
        yield _jobs(request, range(first, first + series.count))
        return
    with CheckpointFolder(
        job.output, key, key, 0.0, most_bytes=0, urgent=lambda: False, tell=lambda text: None
    ) as folder:
        folder.remember_seed(key, first)
        folder.keep("series", b"")
        yield _jobs(request, range(first, first + series.count))
        folder.clear()


def _pattern(request: Request) -> str:
    return "" if request.output is None else request.output.name


def _last_first(count: int) -> int:
    from linfusion_cli.config.option_rows import LARGEST_SEED

    return LARGEST_SEED + 1 - count


def _jobs(request: Request, seeds: Sequence[int]) -> list[Job]:
    from linfusion_cli.config.one_look import one_look
    from linfusion_cli.config.resolve import resolve

    with one_look():
        jobs = [resolve(replace(request, seed=seed, index=index)) for index, seed in enumerate(seeds, 1)]
    names = {job.output.name.casefold() for job in jobs}
    if len(names) < len(jobs):  # only of a preset's own template: _told_apart sees to the others
        raise UsageError(f"{len(jobs)} images would have {len(names)} names: give -o a name with {{seed}} in it")
    return jobs


def _told_apart(output: Path | None) -> Path | None:
    """A name of a file with the seed in it, if nothing in it tells the images apart."""
    if output is None or output.is_dir() or any(field in output.name for field in FIELDS_THAT_DIFFER):
        return output
    return output.with_name(f"{output.stem}-{{seed}}{output.suffix}")


def is_done(job: Job) -> bool:
    """Whether its file is there, whole, and holds this very image."""
    from linfusion_cli.config.job_hash import job_hash
    from linfusion_cli.output.formats.check import has_ends
    from linfusion_cli.output.metadata import read_record

    if job.overwrite or not job.output.exists() or not has_ends(str(job.output)):
        return False
    try:
        return read_record(job.output).get("id") == job_hash(job)
    except UsageError:
        return False
