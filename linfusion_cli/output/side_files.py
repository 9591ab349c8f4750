"""The checks of what is written beside an image: checkpoints, preview, memory log and the images of stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from linfusion_cli.output.atomic_file import check_folder, check_replaceable
from linfusion_cli.output.checkpoint_folder import check_hidden_folder
from linfusion_cli.output.memory_log import check_log


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
