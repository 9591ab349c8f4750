"""The requirements of a preset or of flags: what has to be on this machine, and whole, before an image can be made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from linfusion_cli.config.extras import Weighted, fingerprints, inversion
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.presets import load_preset
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.checksums import verify
from linfusion_cli.weights.locate import missing
from linfusion_cli.weights.requirements import Kind, Requirement
from linfusion_cli.weights.safetensors_header import ENDING, weight_files


def requirements_of(settings: Preset) -> tuple[Requirement, ...]:
    """All that a preset needs; what ships inside, and the user's own folders, are requirements that are met."""
    model, extras = settings.model, settings.extras
    requirements = [Requirement("model", model.repositories, model.revision, model.variant, model.family)]
    if model.unet:
        requirements.append(Requirement("unet", (model.unet,), "", model.variant, model.family))
    if "linear" in (model.attention, model.base_attention):
        requirements.append(Requirement("linfusion", model.linfusion, "", "", model.family))
    if location := model.vae or model.vae_float16:
        requirements.append(Requirement("vae", (location,), "", "", model.family))
    listed: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("lora", tuple(Weighted.parse(text).location for text in extras.loras)),
        ("textual-inversion", tuple(inversion(text)[0] for text in extras.textual_inversions)),
        ("controlnet", extras.controlnets),
        ("ip-adapter", (extras.ip_adapter,) if extras.ip_adapter else ()),
        ("ip-encoder", (extras.ip_encoder,) if extras.ip_encoder else ()),
    )
    for kind, locations in listed:
        variant = "fp16" if kind == "controlnet" else ""
        requirements += [Requirement(kind, (location,), "", variant, model.family) for location in locations]
    return tuple(requirements)


def check_weights(settings: Preset, preset: str) -> None:
    """Reads every weight file whose hash is known, once for as long as it stays as it is.

    Parts are loaded one by one, the decoder hours after the first step: what is damaged is found before. Raises
    WeightsError that names the file, or the command that fetches what is missing. Whether linear attention, and an
    autoencoder for float16 alone, are needed is decided by the stages and the number format: loading them checks these.
    """
    refuse_missing(settings, preset)
    for requirement in requirements_of(settings):
        found = requirement.here()
        for path in _weights_in(found, requirement.variant) if found else ():
            verify(path)


def refuse_missing(settings: Preset, preset: str) -> None:
    """Raises WeightsError, with the command that fetches it, if a file that every image needs is not on this machine.

    Reads no file.
    """
    for requirement in requirements_of(settings):
        depends = requirement.kind == "linfusion" or (requirement.kind == "vae" and not settings.model.vae)
        if not depends and requirement.found() is None:
            own = requirement in requirements_of(load_preset(preset).settings)  # then its other parts are required too
            raise missing(requirement.locations, requirement.revision, requirement.parameter, preset if own else "")


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
