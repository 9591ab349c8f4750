"""What is beside an image: its folder, and the checks of checkpoints, preview, memory log and images of stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from linfusion_cli.events import Note, Notify
from linfusion_cli.output.atomic_file import check_folder, check_replaceable, make_folder
from linfusion_cli.output.checkpoint_folder import check_hidden_folder
from linfusion_cli.output.memory_log import check_log

GONE = " (deleted)"  # Linux writes it behind the name of a folder that was removed


def side_checks(
    image: Path, *, preview: Path | None, memory_log: Path | None, stages_folder: Path | None
) -> Iterator[Callable[[], None]]:
    """Functions that change nothing and raise OutputError, one for each place that is written beside an image."""
    if image.parent.is_dir():  # else the check of the image itself tells it
        yield partial(check_hidden_folder, image.parent)
    if preview is not None:
        yield partial(check_replaceable, preview, parameter="preview")
    if memory_log is not None:
        yield partial(check_log, memory_log)
    if stages_folder is not None:
        yield partial(check_folder, stages_folder, parameter="stages_folder")


def restore_folder(folder: Path, notify: Notify) -> None:
    """Makes the image's folder again where it was moved or removed while the image was made: the work needs a home.

    Where it is relative to a current folder that was removed, this is made again and entered.
    """
    if not folder.is_absolute() and (current := _removed_current_folder()):
        make_folder(current)
        os.chdir(current)
        notify(Note(text=f"the current folder {str(current)!r} was removed meanwhile: made again for the image"))
    if not folder.exists():
        make_folder(folder)
        notify(Note(text=f"the folder {str(folder)!r} was moved or removed meanwhile: made again for the image"))


def _removed_current_folder() -> Path | None:
    """Where the current folder was, if it was removed and the system (Linux) says where it was."""
    try:
        os.getcwd()
    except FileNotFoundError:
        with suppress(OSError):
            where = os.readlink("/proc/self/cwd")
            return Path(where.removesuffix(GONE)) if where.endswith(GONE) else None
    return None
