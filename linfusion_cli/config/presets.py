"""Every setting of an image: defaults.toml, a preset and the options given, laid over each other and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from linfusion_cli.config.choices import OTHER_WORDS
from linfusion_cli.config.one_look import looks_once
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.preset_files import DEFAULTS, Layer, preset_chain, read_preset, shipped_folder
from linfusion_cli.config.preset_keys import preset_key
from linfusion_cli.config.preset_schema import BUILTIN, Preset, SamplingSettings, schema
from linfusion_cli.config.sampling_names import Layered, resolve_names
from linfusion_cli.config.schedulers import MOST_STEPS, SCHEDULERS, least_steps, least_strength, unsupported
from linfusion_cli.config.toml_text import shown
from linfusion_cli.errors import LinfusionError, Message, Option, UsageError, nearest, nearest_name, option
from linfusion_cli.weights.default_vae import default_vae
from linfusion_cli.weights.families import BUILTIN_FAMILY

Source = str | Option  # "defaults.toml", "preset NAME", or the option that set a key; for errors: the file and line

FAMILY_VAE = "the family's usual"  # the source of an autoencoder that nobody named
_usual_vae = looks_once(default_vae)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A complete preset and, for each key ("sampling.steps"), where its value came from."""

    name: str
    settings: Preset
    sources: Mapping[str, Source]
    origins: Mapping[str, Source]  # the same, as an error names it: with the line in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value given as an option, which beats every file."""

    option: str  # its key, "steps"
    value: object


def load_preset(name: str, given: Mapping[str, Given] | None = None) -> Loaded:
    """Lays defaults.toml, a preset and what it extends, and options (by preset key) over each other; checks all.

    Raises UsageError, naming the file and line or the option, for anything that is not as defaults.toml describes it.
    """
    of_files, layers = _of_files(name)
    layered = {**of_files}
    for key, one in (given or {}).items():
        layered[key] = Layered(one.value, layers, option(one.option), option(one.option))
    resolve_names(layered, lambda origin, value: said(origin, shown(value)))
    origins = {key: one.origin for key, one in layered.items()}
    settings = _validated({key: one.value for key, one in layered.items()}, origins)
    _check_together(settings, origins)
    sources = {key: one.source for key, one in layered.items()}
    return Loaded(name=name, settings=settings, sources=sources, origins=origins)


@looks_once
def _of_files(name: str) -> tuple[Mapping[str, Layered], int]:
    """The values of defaults.toml, a preset and what it extends, laid over each other, and the number of files."""
    layered: dict[str, Layered] = {}
    layers = [read_preset(shipped_folder() / f"{DEFAULTS}.toml", f"{DEFAULTS}.toml"), *preset_chain(name)]
    for number, layer in enumerate(layers):
        for key, value in _flat(layer):
            layered[key] = Layered(value, number, layer.source, f"{layer.where(key)}: {key}")
    return layered, len(layers)


def with_default_vae(loaded: Loaded) -> Loaded:
    """The same with the usual autoencoder of the family, where the model has none and none is named."""
    model = loaded.settings.model
    vae = "" if model.vae else _usual_vae(model.repositories, model.revision, model.family)
    if not vae:
        return loaded
    settings = loaded.settings.model_copy(update={"model": model.model_copy(update={"vae": vae})})
    return replace(loaded, settings=settings, sources={**loaded.sources, "model.vae": FAMILY_VAE})


def _flat(layer: Layer) -> Iterator[tuple[str, object]]:
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
                raise UsageError(f'{layer.where(key)}: unknown key "{key}". {_nearest_key(section, name, keys)}')
            yield key, value


def _nearest_key(section: str, name: str, keys: Iterable[str]) -> str:
    """The key that was most likely meant: one of the section, by its own name or that of an option, or of another."""
    inside = {key.partition(".")[2]: key for key in keys if key.startswith(f"{section}.")}
    others = {key.partition(".")[2]: key for key in keys}
    named = {other: row.preset_key for row in all_rows() if row.preset_key for other in row.batch_names}
    for names in (inside, others):
        aliases = {other: key.partition(".")[2] for other, key in named.items() if key in names.values()}
        if close := nearest_name(name, names, aliases):
            return f'Did you mean "{names[close]}"?'
    return f"Allowed in [{section}]: {', '.join(sorted(inside))}"


def _validated(values: Mapping[str, object], origins: Mapping[str, Source]) -> Preset:
    """The settings with their types. Raises UsageError that names the origin of the first wrong value."""
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
        raise UsageError(_explained(key, values, origins[key], details)) from error


def _explained(key: str, values: Mapping[str, object], origin: Source, error: ErrorDetails) -> Message:
    """What is wrong with the value of a key: the value, what is allowed, and the nearest allowed value."""
    row, annotation, value = preset_key(key), schema()[key].annotation, values[key]
    if isinstance(origin, Option) and isinstance(value, tuple):  # of an option that may be repeated
        if row.choices:
            wrong = next(str(item) for item in value if item not in row.choices)
            return Message(origin, f" {shown(wrong)}: {one_of(wrong, row.choices)}")
        one = f"numbers {row.range.ends}" if row.range else row.description.partition(", like")[0]
        return Message(origin, f" {', '.join(shown(item) for item in value)}: write {one}")
    given = said(origin, shown(value))
    if get_origin(annotation) is Literal:
        return Message(given, f": {one_of(str(value), get_args(annotation))}")
    end = f"write {row.description}."
    limits = error.get("ctx", {})
    if error["type"] == "value_error" and not key.endswith("interval"):
        end += f" Each is {limits['error']}."
    elif row.range and {"ge", "gt", "le", "multiple_of"} & limits.keys() and isinstance(value, int | float):
        closest = _useful(key, row.range.nearest(value), values)
        end += f" Nearest: {closest}" if closest else ""
    return Message(given, f": {end}")


def _useful(key: str, closest: str, values: Mapping[str, object]) -> str:
    """The nearest allowed value, or the next with which the stages of an upscale run a step at least."""
    steps, strength = values["sampling.steps"], values["upscale.strength"]
    if key == "sampling.steps" and closest == "1" and isinstance(strength, int | float):
        return str(min(least_steps(strength), MOST_STEPS))
    if key == "upscale.strength" and closest == "0" and isinstance(steps, int) and steps > 0:
        return least_strength(steps)
    return closest


def one_of(given: str, allowed: Sequence[str]) -> str:
    """What to write instead of an unknown word: every allowed one, and the closest if one is close."""
    closest = nearest_name(given, [word for word in allowed if word], OTHER_WORDS)
    return f"write one of {', '.join(word or shown(word) for word in allowed)}." + (
        f' Did you mean "{closest}"?' if closest else ""
    )


def _check_together(settings: Preset, origins: Mapping[str, Source]) -> None:
    model = settings.model
    for key, names in (("model.repositories", model.repositories), ("model.linfusion", model.linfusion)):
        if BUILTIN in names and model.family != BUILTIN_FAMILY:
            family = said(origins["model.family"], f'"{model.family}"')
            raise UsageError(family, f', but "{BUILTIN}" is of the family "{BUILTIN_FAMILY}" (', origins[key], ")")
    if "linear" in (model.attention, model.base_attention) and not model.linfusion:
        raise UsageError(
            origins["model.linfusion"], ' is empty: linear attention needs one, like ["Yuanshi/LinFusion-1-5"]'
        )
    _check_sampling(settings.sampling, origins)


def _check_sampling(sampling: SamplingSettings, origins: Mapping[str, Source]) -> None:
    def say_of(key: str) -> Message:
        return said(origins[f"sampling.{key}"], getattr(sampling, key))

    if sampling.steps > (most := SCHEDULERS[sampling.scheduler].most_steps):
        raise UsageError(say_of("steps"), f": {sampling.scheduler} makes at most {most}. Nearest: {most}")
    if -1 < sampling.eta < 0:
        raise UsageError(say_of("eta"), ": write a number from 0 to 1, or -1. Nearest: 0")
    if sampling.eta >= 0 and not SCHEDULERS[sampling.scheduler].eta:
        able = ", ".join(name for name, row in SCHEDULERS.items() if row.eta)
        raise UsageError(say_of("eta"), f": {sampling.scheduler} has no eta, which is for {able}. Nearest: -1")
    if found := unsupported(sampling.scheduler, sampling.sigma_schedule, sampling.timestep_spacing):
        raise UsageError(say_of(found[0]), f": {found[1]}")


def said(origin: Source, value: object) -> Message:
    """What was given where: an option with its value, a key of a file as TOML has it."""
    return Message(origin, f" {value}" if isinstance(origin, Option) else f" = {value}")
