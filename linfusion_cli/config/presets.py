"""Presets: every setting of an image, from defaults.toml, a preset file and flags, each with where it came from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.errors import LinfusionError, UsageError, nearest

Family = Literal["sd15", "sd21", "sdxl"]
Attention = Literal["linear", "softmax"]
Prediction = Literal["auto", "epsilon", "v_prediction", "v_prediction_zero_snr"]
Dtype = Literal["float16", "bfloat16", "float32"]
if TYPE_CHECKING:
    Scheduler = str
else:
    Scheduler = Literal[tuple(SCHEDULERS)]  # the names of the table
ATTENTIONS: tuple[str, ...] = get_args(Attention)
DTYPES: tuple[str, ...] = get_args(Dtype)

DEFAULTS = "defaults"
LCM_STEPS = 50  # that it was distilled from
BUILTIN_PREFIX = "builtin:"
BUILTIN = "builtin:landscape"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _between(low: float, high: float, *, whole: bool = False) -> Any:
    return Field(ge=low, le=high, description=f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g}")


def _text() -> Any:
    return Field(description='a text in quotes, "" for none')


def _names(at_least: int) -> Any:
    return Field(
        strict=False,
        min_length=at_least,
        description=f'a list of {at_least} or more names, like ["owner/name", "a/folder"]',
    )


def _numbers(low: float, high: float) -> Any:
    return Field(strict=False, min_length=1, description=f"a list of numbers from {low:g} to {high:g}, like [{high:g}]")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(_Section):
    """Which weights, and how they compute. presets/defaults.toml says what each key means, for every section."""

    family: Family
    repositories: tuple[str, ...] = _names(1)
    revision: str = _text()
    variant: Literal["fp16", ""]
    linfusion: tuple[str, ...] = _names(0)
    keep_projections: bool = Field(description="true or false")
    vae: str = _text()
    vae_float16: str = _text()
    configs: str = _text()
    prediction: Prediction
    train_size_px: int = Field(ge=64, le=4096, multiple_of=8, description="a multiple of 8 from 64 to 4096")
    attention: Attention
    base_attention: Attention
    dtype_cuda: Dtype
    dtype_cpu: Dtype

    @field_validator("repositories", "linfusion")
    @classmethod
    def _known_places(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        for place in places:
            if not place.strip() or (place.startswith(BUILTIN_PREFIX) and place != BUILTIN):
                raise ValueError(f'a hub name, a folder or "{BUILTIN}"')
        return places


class SamplingSettings(_Section):
    """How stage 0 is drawn."""

    scheduler: Scheduler
    steps: int = _between(
        1, 500, whole=True
    )  # half of the training steps: from there on some schedulers begin too late, or divide by 0
    guidance_scale: float = _between(1, 100)
    guidance_interval: tuple[float, float] = Field(
        strict=False, description="two numbers [low, high] with 0 <= low <= high <= 1"
    )
    negative_prompt: str = _text()
    init_strength: float = Field(gt=0, le=1, description="a number above 0, up to 1")

    @field_validator("guidance_interval")
    @classmethod
    def _in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError("out of order")
        return interval


class UpscaleSettings(_Section):
    """How each later stage grows out of the one before."""

    factor: float = _between(1.1, 4)
    strength: float = _between(0, 1)
    skip_exponent: float = _between(0, 20)
    dilated_exponent: float = _between(0, 20)
    lowpass_exponent: float = _between(0, 20)
    lowpass_sigma: float = _between(0.05, 100)
    dilated_cutoff: float = _between(0, 1)
    lowpass_padding: Literal["reflect", "zeros"]
    between: Literal["pixel", "latent"]
    resize: Literal["lanczos", "bicubic", "bilinear"]
    overscan_px: int = Field(ge=0, le=128, multiple_of=8, description="a multiple of 8 from 0 to 128")
    match_statistics: bool = Field(description="true or false")
    vae_window_latents: int = Field(ge=4096, le=1 << 30, description="a whole number from 4096 to 1073741824")


class ExtrasSettings(_Section):
    """What a user brings along on top of the model."""

    loras: tuple[str, ...] = _names(0)
    textual_inversions: tuple[str, ...] = _names(0)
    clip_skip: int = _between(0, 11, whole=True)
    prompt_weights: bool = Field(description="true or false")
    controlnets: tuple[str, ...] = _names(0)
    control_scales: tuple[float, ...] = _numbers(0, 2)
    control_ends: tuple[float, ...] = _numbers(0, 1)
    control_preprocess: Literal["none", "canny"]
    ip_adapter: str = _text()
    ip_scale: float = _between(0, 2)

    @field_validator("control_scales", "control_ends")
    @classmethod
    def _in_range(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        high = 2 if info.field_name == "control_scales" else 1
        if not all(0 <= value <= high for value in values):
            raise ValueError(f"from 0 to {high}")
        return values


class OutputSettings(_Section):
    """The size and the name of the file."""

    size: str = Field(description='"4k", "8k", "16k" or "WIDTHxHEIGHT" in pixels')
    name: str = Field(description='a file name such as "{preset}-{seed}-{width}x{height}.png"')


class Preset(_Section):
    """Every setting of an image, complete: no value means "default"."""

    model: ModelSettings
    sampling: SamplingSettings
    upscale: UpscaleSettings
    extras: ExtrasSettings
    output: OutputSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A complete preset and, for each key ("sampling.steps"), where its value came from."""

    name: str
    settings: Preset
    sources: Mapping[str, str]
    places: Mapping[str, str]  # the same, as an error names it: the file and line, or the flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A value given on the command line, which beats every file."""

    flag: str  # "--steps"
    value: object


@dataclass(frozen=True, slots=True)
class _Layer:
    source: str
    path: Path
    text: str
    data: Mapping[str, object] = field(hash=False)

    def where(self, key: str) -> str:
        """The file and, if it can be found, the line of a key."""
        section, _, name = key.partition(".")
        inside = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\s*([\w.-]+)\s*]", line):
                inside = header[1]
            here = re.match(r"\s*([\w.-]+)\s*=", line)
            if (here and f"{inside}.{here[1]}".strip(".") == key) or (not name and inside == section):
                return f"{self.path}, line {number}"
        return str(self.path)


def schema() -> dict[str, FieldInfo]:
    """Every key ("sampling.steps") with its field, in the order of the file."""
    found: dict[str, FieldInfo] = {}
    for section, holder in Preset.model_fields.items():
        for name, info in cast(type[BaseModel], holder.annotation).model_fields.items():
            found[f"{section}.{name}"] = info
    return found


def shipped_folder() -> Path:
    """Where the presets of this program are: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "presets", package.parent / "presets"):
        if (folder / f"{DEFAULTS}.toml").is_file():
            return folder
    raise LinfusionError(
        f"{package}: presets/{DEFAULTS}.toml is missing: this installation is damaged. Install linfusion again"
    )


def user_folder() -> Path:
    """Where a user keeps presets of their own; it may not exist."""
    from platformdirs import user_config_path

    return user_config_path("linfusion") / "presets"


def preset_files() -> dict[str, Path]:
    """Every preset by name. A file of the user beats a shipped one of the same name."""
    files: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        for path in sorted(folder.glob("*.toml")):
            if path.stem != DEFAULTS and NAME_PATTERN.fullmatch(path.stem):
                files[path.stem] = path
    return dict(sorted(files.items()))


def find_preset(name: str, *, asked_by: Path | None = None) -> Path:
    """The file of a preset: `name` is a preset's name, or a path that ends in .toml.

    A path in `extends` starts at the folder of `asked_by`, the file that has it; a file that extends its own name
    means the shipped one.
    Raises UsageError if there is no such preset, or if a name looks like a path.
    """
    if name.endswith(".toml"):
        return asked_by.parent / name if asked_by else Path(name)
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f'preset "{name}": a name has letters, digits, "-", "_" and "." only; the path of a file ends in .toml'
        )
    files = preset_files()
    shipped = shipped_folder() / f"{name}.toml"
    if asked_by is not None and files.get(name) == asked_by and shipped.is_file():
        files[name] = shipped
    if name not in files:
        hint = nearest(name, files)
        raise UsageError(
            f'unknown preset "{name}". {hint if hint.endswith("?") else hint + "."} List them: linfusion presets list'
        )
    return files[name]


def load_preset(name: str, flags: Mapping[str, Flag] | None = None) -> Loaded:
    """Lays defaults.toml, the preset and what it extends, and the flags (by key) over each other, and checks the whole.

    Raises UsageError, naming the file and line or the flag, for anything that is not as defaults.toml describes it.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    places: dict[str, str] = {}
    for layer in (_read(shipped_folder() / f"{DEFAULTS}.toml", f"{DEFAULTS}.toml"), *_chain(name)):
        for key, value in _flat(layer):
            values[key], sources[key], places[key] = value, layer.source, f"{layer.where(key)}: {key}"
    for key, flag in (flags or {}).items():
        values[key], sources[key], places[key] = flag.value, flag.flag, flag.flag
    settings = _validated(values, places)
    _check_together(settings, places)
    return Loaded(name=name, settings=settings, sources=sources, places=places)


def _chain(name: str) -> list[_Layer]:
    """The preset's layers, the one that extends nothing first."""
    layers: list[_Layer] = []
    seen: list[Path] = []
    wanted: object = name
    while isinstance(wanted, str):
        path = find_preset(wanted, asked_by=layers[-1].path if layers else None)
        if path.resolve() in seen:
            raise UsageError(
                f'{layers[-1].where("extends")}: extends = "{wanted}" leads back to a preset that it is part of'
            )
        seen.append(path.resolve())
        layers.append(_read(path, f"preset {wanted}"))
        wanted = layers[-1].data.get("extends")
    if wanted is not None:
        raise UsageError(
            f"{layers[-1].where('extends')}: extends = {shown(wanted)}: write the name of one preset in quotes"
        )
    return layers[::-1]


def _read(path: Path, source: str) -> _Layer:
    try:
        text = path.read_bytes().decode("utf-8")
        return _Layer(source, path, text, tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"{path}: the preset can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a preset is a text in UTF-8, and byte {error.start} is not") from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        place = f"line {line[1]}" if line else "the last line"
        raise UsageError(f"{path}, {place}: broken TOML: {error}") from error


def _flat(layer: _Layer) -> Iterator[tuple[str, object]]:
    """The keys of a file with their values; refuses keys that are unknown."""
    keys = schema()
    for section, table in layer.data.items():
        if section == "extends":
            continue
        if section not in Preset.model_fields:
            hint = nearest(section, [*Preset.model_fields, "extends"])
            raise UsageError(f'{layer.where(section)}: unknown key "{section}". {hint}')
        if not isinstance(table, dict):
            raise UsageError(
                f"{layer.where(section)}: {section} = {shown(table)}: {section} is a section; "
                f"write [{section}] and its keys below"
            )
        for name, value in cast(dict[str, object], table).items():
            key = f"{section}.{name}"
            if key not in keys:
                raise UsageError(f'{layer.where(key)}: unknown key "{key}". {nearest(key, keys)}')
            yield key, value


def _validated(values: Mapping[str, object], places: Mapping[str, str]) -> Preset:
    tree: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
    try:
        return Preset.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in details["loc"][:2])
        if key not in values:
            raise LinfusionError(
                f'{DEFAULTS}.toml lacks "{key}": this installation is damaged. Install linfusion again'
            ) from error
        raise UsageError(_explained(key, values[key], places[key], details)) from error


def _explained(key: str, value: object, place: str, error: ErrorDetails) -> str:
    info = schema()[key]
    if place.startswith("--") and isinstance(value, tuple):  # a flag that may be repeated
        one = str(info.description).partition(", like")[0].replace("a list of numbers", "numbers")
        return f"{place} {', '.join(shown(item) for item in cast('tuple[object, ...]', value))}: write {one}"
    given = said(place, shown(value))
    if get_origin(info.annotation) is Literal:
        return f"{given}: {one_of(str(value), get_args(info.annotation))}"
    message = f"{given}: write {info.description}."
    limits = error.get("ctx", {})
    if error["type"] == "value_error" and not key.endswith("interval"):
        return f"{message} Each is {limits['error']}."
    for limit in ("ge", "le"):
        if limit in limits:
            return f"{message} Nearest: {limits[limit]:g}"
    if "multiple_of" in limits and isinstance(value, int):
        return f"{message} Nearest: {round(value / limits['multiple_of']) * limits['multiple_of']}"
    return message


def one_of(given: str, allowed: Sequence[str]) -> str:
    """What to write instead of an unknown word: every allowed one, and the closest if one is close."""
    closest = nearest(given, [word for word in allowed if word])
    return f"write one of {', '.join(word or shown(word) for word in allowed)}." + (
        "" if closest.startswith("Allowed") else f" {closest}"
    )


def _check_together(settings: Preset, places: Mapping[str, str]) -> None:
    model = settings.model
    for key, names in (("model.repositories", model.repositories), ("model.linfusion", model.linfusion)):
        if BUILTIN in names and model.family != "sd15":
            raise UsageError(
                f'{places["model.family"]} = "{model.family}", but "{BUILTIN}" is of the family "sd15" ({places[key]})'
            )
    if "linear" in (model.attention, model.base_attention) and not model.linfusion:
        raise UsageError(
            f'{places["model.linfusion"]} is empty: linear attention needs one, like ["Yuanshi/LinFusion-1-5"]'
        )
    if settings.sampling.scheduler == "lcm" and settings.sampling.steps > LCM_STEPS:
        given = said(places["sampling.steps"], settings.sampling.steps)
        raise UsageError(f"{given}: lcm makes at most {LCM_STEPS}. Nearest: {LCM_STEPS}")


def said(place: str, value: object) -> str:
    """What was given where: a flag as it is typed, a key of a file as TOML has it."""
    return f"{place} {value}" if place.startswith("--") else f"{place} = {value}"


def shown(value: object) -> str:
    """A value as TOML writes it, with everything that a terminal could act on escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in cast("list[object]", value)) + "]"
    return str(value)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return (
        letter
        if letter.isprintable()
        else f"\\u{ord(letter):04x}"
        if ord(letter) < 0x10000
        else f"\\U{ord(letter):08x}"
    )
