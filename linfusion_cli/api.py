"""linfusion from Python: linear attention for any diffusers pipeline, and images of any size in any memory.

Importing or using it changes nothing in the host process: no environment variables, no heap settings, no limits of
Pillow, no signal handlers, no log handlers. Every error is a LinfusionError whose text names the parameter.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import by_key
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError, nearest
from linfusion_cli.events import Event
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.render import Rendered, check_ready, render
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM
from linfusion_cli.weights.used_files import linfusion_folder
from linfusion_cli.weights.weight_file import WeightFile

if TYPE_CHECKING:
    from linfusion_cli.engine.attention.mounting import Mounted

Rows = npt.NDArray[np.uint8]
OnEvent = Callable[[Event], None]


def mount(pipe_or_unet: Any, weights: str | Path | None = None, *, keep_projections: bool = False) -> Mounted:
    """Replaces the self-attention of a diffusers pipeline's UNet by LinFusion's linear attention, in place.

    pipe_or_unet: a pipeline with a `unet`, or a UNet2DConditionModel (SD 1.x, 2.x, XL, or any that the weights fit)
    weights: a folder in the official layout or a hub repository; None: the official weights of the UNet's family
    keep_projections: take only the file's f_q and f_k, and keep the UNet's own query, key, value and output layers
        (for fine-tunes: the files carry the base model's)

    Returns a handle whose `unmount()` restores the original modules. Nothing is downloaded. Raises WeightsError if the
    weights are not on this machine or are of another model; UsageError if the family is unknown, if linear attention
    is mounted already, or if a LoRA is loaded (mount first). The model is unchanged then.
    """
    from linfusion_cli.engine.attention.linfusion import LinFusion
    from linfusion_cli.engine.attention.mounting import mount_on

    unet = _unet_of(pipe_or_unet)
    locations = (str(weights),) if weights is not None else _official_weights(unet)
    folder = linfusion_folder(WeightFile.resolve(locations, "", "linfusion").open())
    return mount_on(unet, LinFusion.load(folder, keep_projections=keep_projections))


@contextmanager
def mounted(
    pipe_or_unet: Any, weights: str | Path | None = None, *, keep_projections: bool = False
) -> Iterator[Mounted]:
    """As mount(), and unmounts at the end of the `with` block, also after an exception."""
    handle = mount(pipe_or_unet, weights, keep_projections=keep_projections)
    try:
        yield handle
    finally:
        handle.unmount()


def run_in_bands(pipe_or_unet: Any, rows: int = 64) -> AbstractContextManager[None]:
    """Inside the `with` block the UNet computes `rows` rows of latents at a time: the same values, with
    the memory of one band.

    rows: 1 and more, of each level of the UNet; fewer rows take less memory and more time. Works inside any pipeline;
    LoRA, IP-Adapter and ControlNet stay as they are. Raises UsageError for rows below 1, WeightsError for a UNet with
    blocks that bands don't know; calls raise UsageError, naming it, for an argument that bands can't honour.
    """
    from linfusion_cli.engine.streaming.foreign_unet import forward_in_bands

    return forward_in_bands(_unet_of(pipe_or_unet), rows)


def plan(prompt: str, *, size: str | None = None, max_memory: str | None = None, **options: Any) -> Plan:
    """What generate() would do, worked out before any weight loads: stages, bands, memory in bytes, time in seconds.

    size: "4k", "8k", "16k" or "WIDTHxHEIGHT" in pixels. max_memory: "6GB", "800MiB"; None: what is free.
    options: any option of `linfusion generate` by its Python name, such as preset, model, seed, steps, guidance,
        loras, controlnets, device, dtype, output (docs/reference.md lists them)

    Raises UsageError for an option that is unknown or out of range, OutOfMemoryError, with the least memory that
    suffices, if nothing fits, and WeightsError for a model file that can't be used.
    """
    rows = by_key()
    if unknown := sorted(options.keys() - rows):
        aliases = {other: row.key for row in rows.values() for other in row.batch_names}
        raise UsageError(f'unknown option "{unknown[0]}". {nearest(unknown[0], rows, aliases)}')
    values = {name: _value(rows[name], value) for name, value in options.items()}
    job = resolve(Request(prompt=prompt, size=size, max_memory=max_memory, **values))
    if (ranks := job.rank_options.ranks) > 1:
        raise UsageError(
            f"{values.get('devices') or ranks}: Python makes an image by one process; the command linfusion generate "
            "starts others",
            parameter="devices" if "devices" in values else "ranks",
        )
    return make_plan(job, find_machine(job.device))


def generate(
    prompt: str | Plan,
    *,
    size: str | None = None,
    max_memory: str | None = None,
    on_event: OnEvent | None = None,
    **options: Any,
) -> Rendered:
    """Makes one image and writes it as a PNG, whole or not at all; goes on with what an interrupted call left.

    prompt: the words, with options as plan() takes them, or a plan that plan() made. on_event: called with every
    progress event (linfusion_cli.events), from the thread that calls generate() and from one that watches the memory.

    Returns the path, the seconds, the peak of memory in bytes and the record that the PNG carries. Raises what plan()
    raises; OutputError if the file can't be written; BusyError if another process makes the same image.
    """
    if isinstance(prompt, Plan) and (size is not None or max_memory is not None or options):
        raise UsageError("a plan is complete: give its options to plan(), not to generate()")
    made = prompt if isinstance(prompt, Plan) else plan(prompt, size=size, max_memory=max_memory, **options)
    return render(made, on_event or _ignore)


def stream(plan: Plan, on_event: OnEvent | None = None) -> Iterator[Rows]:
    """Yields the plan's image as uint8 rows (rows, width, 3) from the top, as they are decoded; writes no file.

    Raises what generate() raises, but for writing; the image is complete when the iterator ends.
    """
    check_ready(plan)
    from linfusion_cli.engine.pipeline import images

    for image in images(plan, on_event or _ignore):
        if image.final:
            yield from image.rows


def _ignore(event: Event) -> None:
    """The default for on_event."""


def _value(row: OptionRow, value: Any) -> Any:
    """The value as Request has it: lists as tuples, paths and texts as the option wants them, numbers as Python's own.

    Raises UsageError for one of another type.
    """
    if isinstance(value, list | tuple):
        return tuple(_value(row, item) for item in value)
    if value is None or (isinstance(value, row.kind) and not (row.kind is int and isinstance(value, bool))):
        return value
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if row.kind in (str, Path) and isinstance(text, str):
        return row.kind(text)
    with suppress(TypeError):
        if row.kind is int and not isinstance(value, bool):
            return operator.index(value)
        if row.kind is float and not isinstance(value, str | bool):
            return float(value)
    raise UsageError(f"{value!r:.60}: {type(value).__name__}, not {row.kind.__name__}", parameter=row.key)


def _unet_of(pipe_or_unet: Any) -> Any:
    unet = getattr(pipe_or_unet, "unet", pipe_or_unet)
    if not hasattr(unet, "down_blocks") or not hasattr(unet, "config"):
        raise UsageError(f"{type(pipe_or_unet).__name__}: neither a diffusers pipeline with a UNet nor a UNet")
    return unet


def _official_weights(unet: Any) -> tuple[str, ...]:
    """Where the official LinFusion weights of the UNet's family are, as the family's preset says."""
    dim = unet.config.cross_attention_dim
    family = OF_TEXT_DIM.get(dim, "")
    if family not in FAMILY_NAMES:
        known = ", ".join(str(width) for width, name in OF_TEXT_DIM.items() if name in FAMILY_NAMES)
        raise UsageError(f"this UNet reads text of width {dim}, official weights are for {known}: name weights=...")
    return load_preset(f"{family}-4k").settings.model.linfusion
