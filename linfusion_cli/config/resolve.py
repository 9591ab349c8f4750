"""What was asked: a request with its preset resolved into one frozen job, each value with where it came from."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from linfusion_cli.config import extras
from linfusion_cli.config.filename_template import Origin
from linfusion_cli.config.given_options import given_options, overrides
from linfusion_cli.config.input_images import inspect_image, range_or_none
from linfusion_cli.config.job import Job
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.job_name import image_name, shared_fields
from linfusion_cli.config.kept_start import with_kept_start
from linfusion_cli.config.model_names import folders_of, preset_with_paths, with_paths
from linfusion_cli.config.option_rows import LARGEST_SEED, RANDOM_SEED
from linfusion_cli.config.options import by_key
from linfusion_cli.config.presets import Given, Loaded, load_preset, with_default_vae
from linfusion_cli.config.prompt_loras import read_tags, split_tags
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.config.request import Request
from linfusion_cli.config.request_checks import (
    checked_choice,
    checked_device,
    checked_number,
    checked_preview,
    checked_prompt,
    checked_text,
    parse_bytes,
)
from linfusion_cli.config.size_options import SIZE_KEYS, size_of
from linfusion_cli.errors import Option, UsageError, option
from linfusion_cli.file_formats import PNG, SETTINGS, FileSettings, file_settings, format_of_ending
from linfusion_cli.geometry import Size, parse_size

CHECKPOINT_SECONDS = 30.0
OPEN_FILES = ("/dev", "/dev/fd", "/proc/self/fd")  # folders of devices, and of what a process has open
USUAL_SCALE = 2.0  # of the sides, where an image is made larger and no size is given


def resolve(request: Request) -> Job:
    """Merges defaults, preset and flags, draws a seed if none is given, and names the file.

    Raises UsageError for anything that can't be rendered; the message says what is allowed. Raises WeightsError for a
    name of weights that no configured folder has.
    """
    request, given, loaded, notes = _loaded(request)
    settings = loaded.settings
    extras.check_family(extras.family_here(request.model, request.unet), settings, loaded.name)
    prompt = checked_prompt(
        request.prompt, may_be_empty=request.upscale_image is not None, weights=settings.extras.prompt_weights
    )
    size = _size(loaded)
    value_range = range_or_none(request.input_range)
    start = extras.start_from(request.init_image, request.upscale_image, value_range)
    loaded = with_kept_start(loaded, start)
    settings = loaded.settings
    extras.check_growth(loaded, size, start)
    extras.check_companions(given, settings.extras, start)
    by_ranks = RankOptions.of(request.ranks, request.devices, checked_device(request.device), request.rank_shares)
    seed_drawn = request.seed in (None, RANDOM_SEED)
    seed = secrets.randbelow(LARGEST_SEED + 1) if seed_drawn else checked_number("seed", cast("int", request.seed))
    job = Job(
        prompt=prompt,
        negative_prompt=checked_text(
            settings.sampling.negative_prompt, "the negative prompt", weights=settings.extras.prompt_weights
        ),
        seed=seed,
        seed_drawn=seed_drawn,
        size=size,
        preset=loaded.name,
        settings=settings,
        device=by_ranks.devices[0] if by_ranks.devices else request.device,
        dtype=checked_choice("dtype", request.dtype),
        kernels=checked_choice("kernels", request.kernels),
        output=Path(),
        file=FileSettings(),
        overwrite=request.overwrite,
        stages_folder=request.stages_folder,
        memory_log=request.memory_log,
        preview=None,
        preview_every=0,
        max_memory_bytes=0 if request.max_memory is None else parse_bytes(request.max_memory),
        scratch_folder=Path(),
        checkpoint_seconds=checked_seconds(request.checkpoint_seconds),
        restart=request.restart,
        start=start,
        control_images=extras.control_images(request.control_images, settings.extras, value_range, start),
        ip_images=extras.ip_images(request.ip_images, settings.extras, value_range),
        weights=extras.fingerprints(settings),
        sources=loaded.sources,
        overrides=overrides(request),
        prompt_notes=notes,
        rank_options=by_ranks,
    )
    output = _output(request, loaded, job)
    chosen = format_of_ending(output.suffix) or PNG
    file = file_settings(chosen, _given_settings(request), size, "" if request.format else _ending_named(request))
    taken = (output, *(image.path for image in job.images))
    preview, every = checked_preview(request.preview, request.preview_every, taken)
    scratch = _scratch(request.scratch_folder, output)
    job = replace(job, output=output, file=file, scratch_folder=scratch, ending_added=_gets_ending(request))
    return replace(job, preview=preview, preview_every=every)


def _loaded(request: Request) -> tuple[Request, Mapping[str, Given], Loaded, tuple[str, ...]]:
    """The request with one size, paths for names and the LoRAs of its prompt; what it gives; its preset; notes."""
    folders = folders_of(request)
    words, tags = split_tags(request.prompt, folders)
    request = _with_size(with_paths(replace(request, prompt=words) if tags else request, folders))
    given = given_options(request)
    loaded = load_preset(extras.preset_name(request.preset, request.model, request.unet), given)
    named = read_tags(tags, folders)
    if named.loras:  # beside those of the options or the preset, as if all of them were given as options
        request = replace(request, loras=(*loaded.settings.extras.loras, *named.loras))
        given = given_options(request)
        loaded = load_preset(loaded.name, given)
    loaded = _without_foreign_loras(loaded, request.model)
    return request, given, with_default_vae(preset_with_paths(loaded, folders)), named.notes


def _without_foreign_loras(loaded: Loaded, model: str | None) -> Loaded:
    """The LoRAs that belong to a preset's model are not for another one that is asked for."""
    settings = loaded.settings
    if model is None or not settings.model.loras or model in load_preset(loaded.name, {}).settings.model.repositories:
        return loaded
    bare = settings.model.model_copy(update={"loras": ()})
    return replace(loaded, settings=settings.model_copy(update={"model": bare}))


def _with_size(request: Request) -> Request:
    """The request with one size, where its width, its shape or the like were given."""
    given = {key: value for key in SIZE_KEYS if (value := getattr(request, key)) is not None}
    if not given:
        return request
    said = given if request.size is None else {"size": request.size, **given}
    upscales = request.upscale_image is not None
    size = size_of(said, lambda: _usual_size(request), keep_shape=upscales)
    return replace(request, size=str(size), width=None, height=None, aspect=None, megapixels=None, long_side=None)


def _usual_size(request: Request) -> Size:
    """The size without an option: the preset's, or USUAL_SCALE times that of an image to upscale."""
    if request.upscale_image is not None:
        image = inspect_image(request.upscale_image, "upscale_image", range_or_none(request.input_range))
        return image.size.scaled(USUAL_SCALE)
    return _size(load_preset(extras.preset_name(request.preset, request.model, request.unet)))


def _size(loaded: Loaded) -> Size:
    try:
        return parse_size(loaded.settings.output.size)
    except UsageError as error:
        origin = loaded.origins["output.size"]
        if isinstance(origin, Option):
            raise
        raise UsageError(f"{origin} = {str(error).removeprefix('size ')}") from error


def _scratch(folder: Path | None, output: Path) -> Path:
    """A folder that is there, or the image's own."""
    if folder is not None and not os.path.isdir(folder):
        raise UsageError(
            f'"{folder}": there is no such folder. Make it first: mkdir -p "{folder}"', parameter="scratch_folder"
        )
    return output.parent if folder is None else folder


def checked_seconds(seconds: float | None) -> float:
    """The most work that may be lost. Raises UsageError beyond a day, or below 0."""
    return CHECKPOINT_SECONDS if seconds is None else checked_number("checkpoint_seconds", seconds)


def _given_settings(request: Request) -> dict[str, object]:
    """What a request says of its file, by key. Raises UsageError for values out of range."""
    given = {key: value for key in SETTINGS if (value := getattr(request, key)) is not None}
    for key, value in given.items():
        row = by_key()[key]
        if row.range is not None:
            checked_number(key, value)
        if row.choices:
            checked_choice(key, str(value))
    return given


def _ending_named(request: Request) -> str:
    """The file that the user named, if its ending says its format; else ""."""
    named = str(request.output or "")
    return named if format_of_ending(Path(named).suffix) else ""


def _gets_ending(request: Request) -> bool:
    """Whether the user named a file without an ending, and no format: a PNG is written."""
    named = request.output is not None and not os.path.isdir(request.output)
    return named and request.format is None and format_of_ending(Path(request.output or "").suffix) is None


def _output(request: Request, loaded: Loaded, job: Job) -> Path:
    """The file to write: the one asked for, or the preset's template in the folder asked for or in the current one."""
    origin: Origin
    # isdir, unlike Path.is_dir, says no to a name that the system refuses.
    if request.output is None or os.path.isdir(request.output):
        template, origin, folder = loaded.settings.output.name, loaded.origins["output.name"], request.output or Path()
    else:
        open_one = os.path.dirname(request.output) in OPEN_FILES  # /dev/stdout is what it leads to
        if open_one or (os.path.exists(request.output) and not os.path.isfile(request.output)):
            what = "a device, a pipe or a socket; an image needs a file of its own"
            raise UsageError(f'"{request.output}" is {what}', parameter="output")
        template, origin, folder = request.output.name, option("output"), request.output.parent
    chosen = "" if request.format is None else checked_choice("format", request.format)
    shared = shared_fields(job)
    words = job.prompt if job.stores_prompt else ""
    name = image_name(template, origin, shared, words, job.seed, request.index, lambda: job_hash(job), chosen)
    return folder / name
