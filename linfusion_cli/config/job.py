"""What was asked: a request with its preset resolved into one frozen job, each value with where it came from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from linfusion_cli.config import extras
from linfusion_cli.config.extras import Start
from linfusion_cli.config.filename_template import Place, checked_name, expand, slug
from linfusion_cli.config.input_images import InputImage
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import OPTIONS, by_key
from linfusion_cli.config.presets import DTYPES, Flag, Loaded, Preset, load_preset, one_of, schema
from linfusion_cli.config.prompt_weighting import parse_weights
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size, parse_size

LARGEST_SEED = 2**32 - 1
LARGEST_PROMPT_BYTES = 65536
CHECKPOINT_SECONDS = 30.0
LARGEST_CHECKPOINT_SECONDS = 86400.0
PIXELS_VERSION = 2  # raised when the same job starts to give other pixels
ZEROED_VERSION = 3  # of SD-XL without a negative prompt, whose embedding is zeros since
ID_DIGITS = 8  # of the job's hash in names
Override = str | int | float | tuple[str | float, ...]
BYTES_PER_UNIT = {
    "": 1,
    "K": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "KI": 1024,
    "MI": 1024**2,
    "GI": 1024**3,
    "TI": 1024**4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user wrote. None means: as the preset says (seed: draw one; max_memory: what the machine has)."""

    prompt: str
    preset: str | None = None  # None: landscape, or the one of the family of `model`
    model: str | None = None
    linfusion: str | None = None  # "none" for softmax attention everywhere
    vae: str | None = None
    prediction: str | None = None
    keep_projections: bool | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    size: str | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    attention: str | None = None
    base_attention: str | None = None
    loras: tuple[str, ...] = ()
    textual_inversions: tuple[str, ...] = ()
    clip_skip: int | None = None
    prompt_weights: bool | None = None
    controlnets: tuple[str, ...] = ()
    control_images: tuple[Path, ...] = ()
    control_scales: tuple[float, ...] = ()
    control_ends: tuple[float, ...] = ()
    control_preprocess: str | None = None
    ip_adapter: str | None = None
    ip_images: tuple[Path, ...] = ()
    ip_scale: float | None = None
    init_image: Path | None = None
    init_strength: float | None = None
    upscale_image: Path | None = None  # beats init_image: stage 0 is this image
    upscale_strength: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    output: Path | None = None
    overwrite: bool = False
    stages_folder: Path | None = None
    memory_log: Path | None = None
    max_memory: str | None = None
    scratch_folder: Path | None = None
    checkpoint_seconds: float | None = None
    restart: bool = False
    index: int = 0  # the place in a batch, for {index} in the file's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to make. Nothing is left to a default; None turns off: a start, a stages folder, a memory log."""

    prompt: str
    negative_prompt: str
    seed: int  # 0 to LARGEST_SEED
    seed_drawn: bool  # nobody chose it
    size: Size  # in pixels
    preset: str
    settings: Preset
    device: str  # "auto", "cpu", "cuda", "cuda:N" or "mps"
    dtype: str  # "auto" or one of DTYPES
    output: Path
    overwrite: bool
    stages_folder: Path | None  # keeps the image of each stage
    memory_log: Path | None  # JSON lines, one per phase
    max_memory_bytes: int  # 0: what the machine has
    scratch_folder: Path  # for what does not fit into memory
    checkpoint_seconds: float  # of work that an interrupted image may lose; 0: what one step does
    restart: bool  # do not go on with what an interrupted run left
    start: Start | None  # None: stage 0 starts from noise
    control_images: tuple[InputImage, ...]  # one per settings.extras.controlnets
    ip_images: tuple[InputImage, ...]
    weights: Mapping[str, str] = field(
        hash=False
    )  # place -> fingerprint of what is there; places that are not here are left out
    sources: Mapping[str, str] = field(hash=False)  # "sampling.steps" -> "defaults.toml", "preset NAME" or "--steps"
    overrides: Mapping[str, Override] = field(hash=False)  # flag -> value as given: those that decide pixels

    @property
    def images(self) -> tuple[InputImage, ...]:
        """Every image that the user brings."""
        return (*((self.start.image,) if self.start else ()), *self.control_images, *self.ip_images)


def resolve(request: Request) -> Job:
    """Merges defaults, preset and flags, draws a seed if none is given, and names the file.

    Raises UsageError for anything that can't be rendered; the message says what is allowed.
    """
    flags = _flags(request)
    loaded = load_preset(extras.preset_name(request.preset, request.model), flags)
    settings = loaded.settings
    extras.check_family(extras.family_here(request.model), settings, loaded.name)
    prompt = checked_prompt(
        request.prompt, may_be_empty=request.upscale_image is not None, weights=settings.extras.prompt_weights
    )
    size = _size(loaded)
    start = extras.start_from(request.init_image, request.upscale_image)
    extras.check_growth(loaded, size, start)
    extras.check_companions(flags, settings.extras)
    seed = secrets.randbelow(LARGEST_SEED + 1) if request.seed is None else _checked_seed(request.seed)
    overrides = _overrides(request, flags) | {
        flag: value for flag, value in (("--device", request.device), ("--dtype", request.dtype)) if value != "auto"
    }
    job = Job(
        prompt=prompt,
        negative_prompt=_checked_text(
            settings.sampling.negative_prompt, "the negative prompt", weights=settings.extras.prompt_weights
        ),
        seed=seed,
        seed_drawn=request.seed is None,
        size=size,
        preset=loaded.name,
        settings=settings,
        device=_checked_device(request.device),
        dtype=_checked_dtype(request.dtype),
        output=Path(),
        overwrite=request.overwrite,
        stages_folder=request.stages_folder,
        memory_log=request.memory_log,
        max_memory_bytes=0 if request.max_memory is None else parse_bytes(request.max_memory),
        scratch_folder=Path(),
        checkpoint_seconds=checked_seconds(request.checkpoint_seconds),
        restart=request.restart,
        start=start,
        control_images=extras.control_images(request.control_images, settings.extras),
        ip_images=extras.ip_images(request.ip_images, settings.extras),
        weights=extras.fingerprints(settings),
        sources=loaded.sources,
        overrides=overrides,
    )
    output = _output(request, loaded, job)
    return replace(job, output=output, scratch_folder=_scratch(request.scratch_folder, output))


class Kind:
    """What the jobs of a long list share, worked out once: everything but prompt, seed and name."""

    def __init__(self, request: Request) -> None:
        """Raises UsageError as resolve() does, for all that is not the prompt's or the seed's."""
        self.request = request
        self.job = resolve(replace(request, prompt="shared", seed=0, output=None))
        self._digest = _shared_digest(self.job)
        self._fields = _shared_fields(self.job)

    def id_of(self, prompt: str, seed: int) -> str:
        """The job_hash of the job with this checked prompt and this seed. Raises UsageError for a seed out of range."""
        return _finished_digest(self._digest, prompt, _checked_seed(seed))

    def seed_for(self, prompt: str, repeat: int) -> int:
        """The seed of the `repeat`-th job with these words that names none: always the same one."""
        return int(_finished_digest(self._digest, prompt, -1 - repeat)[:8], 16)

    def checked_prompt(self, prompt: str) -> str:
        """The prompt as the job will have it. Raises UsageError."""
        return checked_prompt(
            prompt, may_be_empty=self.request.upscale_image is not None, weights=self.job.settings.extras.prompt_weights
        )

    def name_of(self, template: str, prompt: str, seed: int, index: int, job_id: str, place: Place) -> str:
        """The name of that job's file. Raises UsageError, which names `place`, for what is no name of one PNG file."""
        return _name(template, place, self._fields, prompt, seed, index, lambda: job_id)


def what_decides_pixels(job: Job) -> dict[str, object]:
    """The part of a job that two identical images share, ready for JSON. Places, names and memory are not in it."""
    settings = job.settings
    return {
        "version": ZEROED_VERSION if _zeroed(job) else PIXELS_VERSION,
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "size": [job.size.width, job.size.height],
        "dtype": job.dtype,
        "model": settings.model.model_dump(mode="json"),
        "sampling": settings.sampling.model_dump(mode="json"),
        "upscale": settings.upscale.model_dump(mode="json"),
        "extras": settings.extras.model_dump(mode="json"),
        "weights": dict(job.weights),
        "start": [job.start.image.sha256, job.start.refined] if job.start else [],
        "control_images": [image.sha256 for image in job.control_images],
        "ip_images": [image.sha256 for image in job.ip_images],
    }


def _zeroed(job: Job) -> bool:
    """Whether the negative embedding may be zeros (force_zeros_for_empty_prompt)."""
    return job.settings.model.family == "sdxl" and not job.negative_prompt.strip()


def job_hash(job: Job) -> str:
    """A key of 64 hexadecimal digits: the same for two jobs exactly if they ask for the same pixels."""
    return _finished_digest(_shared_digest(job), job.prompt, job.seed)


def unseeded_hash(job: Job) -> str:
    """The same for jobs that differ in nothing but their seeds."""
    return _finished_digest(_shared_digest(job), job.prompt, -1)


def _shared_digest(job: Job) -> hashlib._Hash:
    shared = {key: value for key, value in what_decides_pixels(job).items() if key not in ("prompt", "seed")}
    return hashlib.sha256(json.dumps(shared, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _finished_digest(shared: hashlib._Hash, prompt: str, seed: int) -> str:
    digest = shared.copy()
    digest.update(f"{seed} {prompt}".encode())
    return digest.hexdigest()


def parse_bytes(text: str) -> int:
    """Reads "6GB", "800MiB" or "1.5G" (= 1.5 GB; k, M, G and T are powers of 1000, Ki, Mi, Gi and Ti of 1024).

    Raises UsageError for anything else and for less than one byte.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match or (text.strip().isdigit() and text.strip() != "0"):
        raise UsageError(
            f'"{text}": write a number and a unit, for example 6GB, 800MiB or 1.5G', parameter="max_memory"
        )
    amount = int(float(match[1]) * BYTES_PER_UNIT[match[2] or ""])
    if amount < 1:
        raise UsageError(
            f'"{text}": nothing fits into no memory. Write for example 6GB, or leave it out for what the machine has',
            parameter="max_memory",
        )
    return amount


def _flags(request: Request) -> dict[str, Flag]:
    """The options that a user gave, by the preset key that they override, with what they imply together."""
    given = {row.preset_key: Flag(flag=row.flag, value=_given(row, request)) for row in OPTIONS if row.preset_key}
    if request.linfusion == "none":  # softmax attention everywhere
        softmax = Flag(flag=by_key()["linfusion"].flag, value="softmax")
        given |= {"model.linfusion": Flag(flag=softmax.flag, value=None), "model.attention": softmax}
    if request.base_attention is None:  # the attention of every stage speaks for stage 0, too
        given["model.base_attention"] = given["model.attention"]
    return {key: given[key] for key in schema() if key in given and given[key].value is not None}


def _given(row: OptionRow, request: Request) -> object:
    """What a request says of an option, as a preset would have it; None for nothing."""
    value = getattr(request, row.key)
    if row.preset_takes_list:
        return (value,) if value else None
    return None if value == () else value


def _overrides(request: Request, flags: Mapping[str, Flag]) -> dict[str, Override]:
    """The flags that decide pixels, as they would be typed again where the files lie."""
    locations = {row.flag for row in OPTIONS if row.is_location}
    overrides: dict[str, Override] = {}
    for flag in flags.values():
        if isinstance(flag.value, tuple):
            overrides[flag.flag] = extras.local_names(flag.value)
        elif isinstance(flag.value, str | int | float):
            overrides[flag.flag] = extras.local_name(str(flag.value)) if flag.flag in locations else flag.value
    if request.linfusion:
        overrides[by_key()["linfusion"].flag] = extras.local_name(request.linfusion)
    for row in OPTIONS:
        if row.kind is Path and row.decides_pixels and not row.is_positional:
            given = getattr(request, row.key)
            if row.repeatable and given:
                overrides[row.flag] = tuple(path.name for path in given)
            elif given and not request.upscale_image:  # which beats an image to start from
                overrides[row.flag] = given.name
    return overrides


def _size(loaded: Loaded) -> Size:
    try:
        return parse_size(loaded.settings.output.size)
    except UsageError as error:
        place = loaded.places["output.size"]
        if place == "--size":
            raise
        raise UsageError(f"{place} = {str(error).removeprefix('size ')}") from error


def checked_prompt(text: str, *, may_be_empty: bool, weights: bool = False) -> str:
    """The prompt as it is used.

    Raises UsageError for one that is too long, no text, of broken weights, or empty where it must not be.
    """
    prompt = _checked_text(text, "the prompt", weights=weights)
    if not may_be_empty and not any(letter.isprintable() and letter != " " for letter in prompt):
        raise UsageError(
            'the prompt is empty. Say what to draw, for example: linfusion generate "a mountain lake at dawn"'
        )
    return prompt


def _checked_text(text: str, what: str, *, weights: bool) -> str:
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not a text in UTF-8: see character {error.start + 1}") from error
    if length > LARGEST_PROMPT_BYTES:
        raise UsageError(f"{what} has {length} bytes: at most {LARGEST_PROMPT_BYTES}")
    if weights:
        parse_weights(text.strip(), what)
    return text.strip()


def _checked_seed(seed: int) -> int:
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(
            f"{seed}: write a whole number from 0 to {LARGEST_SEED}. Nearest: {min(max(seed, 0), LARGEST_SEED)}",
            parameter="seed",
        )
    return seed


def _scratch(folder: Path | None, output: Path) -> Path:
    """A folder that is there, or the image's own."""
    if folder is not None and not os.path.isdir(folder):
        raise UsageError(
            f'"{folder}": there is no such folder. Make it first: mkdir -p "{folder}"', parameter="scratch_folder"
        )
    return output.parent if folder is None else folder


def checked_seconds(seconds: float | None) -> float:
    """The most work that may be lost. Raises UsageError beyond a day, or below 0."""
    if seconds is None:
        return CHECKPOINT_SECONDS
    if not 0 <= seconds <= LARGEST_CHECKPOINT_SECONDS:
        low, high = 0.0, LARGEST_CHECKPOINT_SECONDS
        raise UsageError(
            f"{seconds:g}: write seconds from {low:g} to {high:g}. Nearest: {(high if seconds > high else low):g}",
            parameter="checkpoint_seconds",
        )
    return seconds


def _checked_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device):
        raise UsageError(
            f'''"{device}": {one_of(device, ("auto", "cpu", "cuda", "cuda:0", "mps"))}''', parameter="device"
        )
    return device


def _checked_dtype(dtype: str) -> str:
    if dtype not in ("auto", *DTYPES):
        raise UsageError(f'''"{dtype}": {one_of(dtype, ("auto", *DTYPES))}''', parameter="dtype")
    return dtype


def _output(request: Request, loaded: Loaded, job: Job) -> Path:
    """The file to write: -o, or the preset's template in the folder that -o names or in the current one."""
    # isdir, unlike Path.is_dir, says no to a name that the system refuses.
    if request.output is None or os.path.isdir(request.output):
        template, place, folder = loaded.settings.output.name, loaded.places["output.name"], request.output or Path()
    else:
        template, place, folder = request.output.name, "--output", request.output.parent
    return folder / _name(
        template, place, _shared_fields(job), job.prompt, job.seed, request.index, lambda: job_hash(job)
    )


def _shared_fields(job: Job) -> dict[str, str | int]:
    """The fields of a name that all jobs of a Kind share."""
    preset = slug(Path(job.preset.removesuffix(".toml")).name)
    return {"width": job.size.width, "height": job.size.height, "size": str(job.size), "preset": preset}


def _name(
    template: str,
    place: Place,
    shared: Mapping[str, str | int],
    prompt: str,
    seed: int,
    index: int,
    make_id: Callable[[], str],
) -> str:
    values = {**shared, "seed": seed, "index": index}
    values["slug"] = slug(prompt) if "{slug}" in template else ""  # these two take long, and lists are long
    values["id"] = make_id()[:ID_DIGITS] if "{id}" in template else ""
    return checked_name(expand(template, values, place), template, place)
