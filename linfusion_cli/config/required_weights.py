"""The requirements of a preset or of flags: what has to be on this machine, and whole, before an image can be made."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from linfusion_cli.config.extras import fingerprints, inversion, locations_of
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.weighted_lora import WeightedLora
from linfusion_cli.errors import LinfusionError, Option, WeightsError, first_of
from linfusion_cli.files import user_path
from linfusion_cli.weights.adapter_files import encoder_folders, no_encoder
from linfusion_cli.weights.checksums import verify
from linfusion_cli.weights.locate import fetch_option, missing, nowhere
from linfusion_cli.weights.requirements import Kind, Requirement
from linfusion_cli.weights.safetensors_header import ENDING, weight_files
from linfusion_cli.weights.used_files import used_files

MOST_NAMES = 150  # characters of them in an error


def requirements_of(settings: Preset) -> tuple[Requirement, ...]:
    """All that a preset needs; what ships inside, and the user's own folders, are requirements that are met."""
    model, extras = settings.model, settings.extras
    replaced = tuple(part for part in ("unet", "vae") if getattr(model, part))
    requirements = [Requirement("model", model.repositories, model.revision, model.variant, model.family, replaced)]
    if model.unet:
        requirements.append(Requirement("unet", (model.unet,), "", model.variant, model.family))
    if "linear" in (model.attention, model.base_attention):
        requirements.append(Requirement("linfusion", model.linfusion, "", "", model.family))
    if location := model.vae or model.vae_float16:
        requirements.append(Requirement("vae", (location,), "", "", model.family))
    listed: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("lora", tuple(WeightedLora.parse(text).location for text in settings.loras)),
        ("textual-inversion", tuple(inversion(text)[0] for text in extras.textual_inversions)),
        ("controlnet", extras.controlnets),
        ("ip-adapter", (extras.ip_adapter,) if extras.ip_adapter else ()),
        ("ip-encoder", (extras.ip_encoder,) if extras.ip_encoder else ()),
    )
    for kind, locations in listed:
        variant = "fp16" if kind == "controlnet" else ""
        requirements += [Requirement(kind, (location,), "", variant, model.family) for location in locations]
    return tuple(requirements)


def check_weights(settings: Preset, preset: str, unused: frozenset[Kind] | None = None) -> None:
    """Reads every weight file whose hash is known, once for as long as it stays as it is.

    Parts are loaded one by one, the decoder hours after the first step: what is damaged is found before. Raises
    WeightsError that names the file, or the command that fetches what is missing. unused: as in missing_weights.
    """
    refuse_missing(settings, preset, unused)
    for requirement in requirements_of(settings):
        found = requirement.here()
        for path in _weights_in(found, requirement.variant) if found else ():
            verify(path)


def refuse_missing(settings: Preset, preset: str, unused: frozenset[Kind] | None = None) -> None:
    """Raises WeightsError, with every missing file and the command that fetches them. Reads no file."""
    if found := missing_weights(settings, preset, unused):
        raise joined(found)


def missing_weights(settings: Preset, preset: str, unused: frozenset[Kind] | None = None) -> tuple[WeightsError, ...]:
    """An error for each location that leads nowhere, then one for all that can be fetched, with one command.

    unused: kinds that the image does without. The stages decide whether linear attention is used, the number format
    whether an autoencoder for float16 alone is: before there is a plan (None) these are not missed.
    """
    if unused is None:
        unused = frozenset({"linfusion"}) if settings.model.vae else frozenset({"linfusion", "vae"})
    gone = [
        requirement
        for requirement in requirements_of(settings)
        if requirement.kind not in unused and requirement.to_fetch()
    ]
    lost = [error for each in gone if (error := nowhere(each.locations, each.parameter))]
    away = [each for each in gone if each.locations and not nowhere(each.locations, each.parameter)]
    for adapter, file in _without_encoder(settings):
        if user_path(adapter.locations[0]).exists():
            lost.append(no_encoder(file))
        else:  # in the hub's cache, to which fetch brings the encoder too
            away.append(adapter)
    own = [each for each in away if each in requirements_of(load_preset(preset).settings)]
    if len(away) == 1:
        one = away[0]
        return *lost, missing(one.locations, one.revision, one.parameter, preset if own else "")
    return *lost, *([_to_fetch(away, own, preset)] if away else [])


def _without_encoder(settings: Preset) -> Iterator[tuple[Requirement, Path]]:
    """IP-Adapters on this machine that have no image encoder beside them where none is named, and their files."""
    for requirement in requirements_of(settings):
        path = requirement.found() if requirement.kind == "ip-adapter" and not settings.extras.ip_encoder else None
        if path is not None and not encoder_folders(file := _adapter_file(path, requirement), path):
            yield requirement, file


def _adapter_file(path: Path, requirement: Requirement) -> Path:
    return used_files(path, requirement.parameter, requirement.family, requirement.variant)[0]


def _to_fetch(away: list[Requirement], own: list[Requirement], preset: str) -> WeightsError:
    """All of them in one command; `own` come with the preset."""
    options = [fetch_option(each.locations, each.revision, each.parameter) for each in away if each not in own]
    words: list[str | Option] = [*([shlex.quote(preset)] if own else []), *options]
    spaced: list[str | Option] = [part for word in words for part in (" ", word)]
    names = ", ".join(each.locations[0] for each in away)
    what = names if len(names) <= MOST_NAMES else f"{len(away)} locations"  # a long command must not be cut
    return WeightsError(f"weights are not on this machine: {what}. Fetch them with: linfusion fetch", *spaced)


def lost_weights(settings: Preset) -> tuple[WeightsError, ...]:
    """An error for each location that leads nowhere, those beside which another would do too."""
    parameters = {location: each.parameter for each in requirements_of(settings) for location in each.locations}
    errors = [
        nowhere((location,), parameters.get(location, "vae"))
        for location in locations_of(settings)
        if Requirement("model", (location,), "", "", "").found() is None
    ]
    if settings.model.configs and not user_path(settings.model.configs).is_dir():
        errors.append(WeightsError(f"{settings.model.configs}: there is no such folder", parameter="configs"))
    return tuple(error for error in errors if error is not None)


def joined(errors: Sequence[WeightsError]) -> WeightsError:
    """The first of them, and the last, which says what to fetch, as one: a line each."""
    first, *others = first_of(errors, "error", keep_last=True)
    parts: list[str | Option | LinfusionError] = []
    for error in others:
        parts += ["\n", error]
    return WeightsError(first, *parts) if others else errors[0]


def refuse_changed(settings: Preset, planned: Mapping[str, str]) -> None:
    """Raises WeightsError that names the first weights that are no longer those of the plan.

    planned: fingerprints() of when it was made. Files in the cache of the hub are not
    looked at: their names are their hashes, which check_weights() holds them against.
    """
    now = fingerprints(settings)
    for name in sorted({*planned, *now}):
        if planned.get(name) != now.get(name):
            raise WeightsError(f"{name}: these weights changed since the plan was made. Plan again")


def _weights_in(path: Path, variant: str) -> list[Path]:
    if path.is_file():
        return [path]
    found: list[Path] = []
    for folder in sorted({file.parent for file in path.rglob(f"*{ENDING}")}):
        try:
            found += weight_files(folder, variant)
        except WeightsError:  # files with names of their own, as LoRA and IP-Adapters have
            found += sorted(folder.glob(f"*{ENDING}"))
    return found
