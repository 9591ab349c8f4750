"""What a user brings along: a model of their own, LoRA, embeddings, images; looked at before any work."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.config.one_look import looks_once
from linfusion_cli.config.preset_files import DEFAULT_PRESET
from linfusion_cli.config.preset_schema import ExtrasSettings, Preset
from linfusion_cli.config.presets import Given, Loaded, said
from linfusion_cli.config.schedulers import SCHEDULERS, least_steps, least_strength
from linfusion_cli.config.weighted_lora import WeightedLora, split_location
from linfusion_cli.errors import UsageError, option
from linfusion_cli.files import leads_somewhere, user_path
from linfusion_cli.geometry import LARGEST_SIDE_PX, Size, nearest_size, stage_sizes
from linfusion_cli.images.deep_samples import Range
from linfusion_cli.images.input_image import InputImage
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS, NO_MODE
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.locate import fingerprint, local_path, missing
from linfusion_cli.weights.model_family import FAMILY_NAMES, family_of
from linfusion_cli.weights.web_links import is_link
from linfusion_cli.weights.weight_file import WeightFile, known_family

CONTROL_KEYS = tuple(f"extras.control_{key}" for key in ("scales", "ends", "modes", "preprocess"))
PRESET_OF = {name: row.preset for name, row in FAMILY_ROWS.items()}
Value = TypeVar("Value", float, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An image to start from. `refined`: stage 0 draws it again (init_image); else it is stage 0 itself (upscale)."""

    image: InputImage
    refined: bool

    @property
    def parameter(self) -> str:
        """The option that named it."""
        return "init_image" if self.refined else "upscale_image"


def grown_from(start: Start | None) -> Size | None:
    """The size of the image that is upscaled; None where stage 0 is drawn."""
    return None if start is None or start.refined else start.image.size


def inversion(text: str) -> tuple[str, str]:
    """Location and token of "LOCATION" or "LOCATION:TOKEN"; without a token the file's name is the token."""
    scheme, marks, rest = text.partition("://") if is_link(text) else ("", "", text)
    location, _, token = rest.partition(":")
    return scheme + marks + location, token or Path(location).stem


@looks_once
def family_here(model: str | None, unet: str | None = None) -> str | None:
    """The family of a model by its tensors; None without one, or if it is not on this machine.

    unet: another one in a location of its own, which tells the family where the model's folder has none
    """
    file = WeightFile.resolve((model,), "", "model", variant="fp16") if model else None
    if file is None or file.path is None:
        return None
    if unet and not file.family:
        other = WeightFile.resolve((unet,), "", "unet", variant="fp16")
        if other.path is not None:
            return family_of(other.tensors, other.path)
    return known_family(file)


def preset_name(preset: str | None, model: str | None, unet: str | None = None) -> str:
    """The preset to use: the one named, else the one of the model's family, else the built-in model's.

    Raises WeightsError if the family can't be told because the model is not on this machine.
    """
    if preset is not None or model is None:
        return preset or DEFAULT_PRESET
    family = family_here(model, unet)
    if family is None:
        raise missing((model,), "", "model")
    return PRESET_OF[family]


def check_family(family: str | None, settings: Preset, preset: str) -> None:
    """Raises UsageError if the preset was made for another family than the model."""
    if family is not None and family != settings.model.family:
        nearest = PRESET_OF[family]
        theirs, ours = FAMILY_NAMES[family], FAMILY_NAMES[settings.model.family]
        raise UsageError(
            f"is of the family {family} ({theirs}), preset {preset} is for {settings.model.family} ({ours}). Nearest: ",
            option("preset", str(nearest)),
            parameter="model",
        )


def start_from(init_image: Path | None, upscale_image: Path | None, value_range: Range | None = None) -> Start | None:
    """The image to start from, looked at. Raises UsageError if it can't be read."""
    if upscale_image is not None:
        return Start(image=inspect_image(upscale_image, "upscale_image", value_range), refined=False)
    if init_image is None:
        return None
    return Start(image=inspect_image(init_image, "init_image", value_range), refined=True)


def check_growth(loaded: Loaded, size: Size, start: Start | None) -> None:
    """Refuses to upscale an image to a size that is no larger, and stages whose first would run less than one step."""
    settings, origins = loaded.settings, loaded.origins
    steps, strength, factor = settings.sampling.steps, settings.upscale.strength, settings.upscale.factor
    given = grown_from(start)
    grows = len(stage_sizes(size, settings.model.train_size_px**2, factor, given)) > 1
    if given is not None and not grows:
        larger = _least_growth(given, settings.model.train_size_px**2, factor)
        too_small = size.width > given.width and size.height > given.height
        why = "a stage of this model would be larger" if too_small else "upscale makes larger"
        raise UsageError(
            origins["output.size"],
            f" {size}: ",
            option("upscale_image"),
            f" has {given} already, and {why}. Nearest: ",
            option("size", str(larger)),
        )
    if not grows or steps * strength >= 1:
        return
    few = f"upscale.strength x sampling.steps = {strength:g} x {steps} = {strength * steps:g} is less than one step"
    enough = least_steps(strength)
    if enough > SCHEDULERS[settings.sampling.scheduler].most_steps:
        raise UsageError(
            said(origins["upscale.strength"], f"{strength:g}"), f": {few}. Nearest: {least_strength(steps)}"
        )
    raise UsageError(said(origins["sampling.steps"], steps), f": {few}. Nearest: {enough}")


def _least_growth(given: Size, train_area_px: float, factor: float) -> Size:
    """A size of twice an image's sides or more that is made from it in more than one stage."""
    scale = 2.0
    size = nearest_size(Size(2 * given.width, 2 * given.height))
    while len(stage_sizes(size, train_area_px, factor, given)) == 1 and scale < LARGEST_SIDE_PX:
        scale *= 1.25
        size = nearest_size(Size(round(scale * given.width), round(scale * given.height)))
    return size


def check_companions(given: Mapping[str, Given], extras: ExtrasSettings, start: Start | None) -> None:
    """Raises UsageError for an option that would do nothing, because what it is about is not there."""
    nets = ("controlnets", bool(extras.controlnets))
    about = dict.fromkeys(CONTROL_KEYS, nets)
    about |= dict.fromkeys(("extras.ip_scale", "extras.ip_encoder"), ("ip_adapter", bool(extras.ip_adapter)))
    about["sampling.init_strength"] = ("init_image", start is not None and start.refined)
    for key, (companion, there) in about.items():
        if key in given and not there:
            raise UsageError(option(given[key].option), " wants ", option(companion))


TILE = re.compile(r"(?<![a-z])tile(?![a-z])", re.IGNORECASE)  # in the names of ControlNets that are trained on an image


def is_tile(location: str, mode: str) -> bool:
    """Whether a ControlNet adds detail to the image that it is shown: by its name, or by the mode of a union."""
    if mode != NO_MODE:
        return MODE_NUMBERS.get(mode) == MODE_NUMBERS["tile"]
    return bool(TILE.search("/".join(Path(location).parts[-2:])))


def control_images(
    paths: tuple[Path, ...], extras: ExtrasSettings, value_range: Range | None = None, start: Start | None = None
) -> tuple[InputImage, ...]:
    """The images of the ControlNets; of tile ones without any, the image that is upscaled.

    Raises UsageError if their number, or that of scales and ends, is another one.
    """
    nets = len(extras.controlnets)
    own = start.image if start is not None and not start.refined and nets and not paths else None
    if own is not None and len(extras.control_modes) in (1, nets):
        others = [
            location
            for location, mode in zip(extras.controlnets, each(extras.control_modes, nets), strict=True)
            if not is_tile(location, mode)
        ]
        if not others:
            _check_counts(extras)
            return (own,) * nets
        raise UsageError(
            f"{local_name(others[0])} wants ",
            option("control_images"),
            ": only a tile ControlNet (by its name, or ",
            option("control_modes", "tile"),
            " of a union) is shown ",
            option("upscale_image"),
            " itself",
            parameter="controlnets",
        )
    if len(paths) != nets:
        raise UsageError(
            f"there are {nets} of ",
            option("controlnets"),
            f" and {len(paths)} of ",
            option("control_images"),
            ": each ControlNet wants one image",
        )
    _check_counts(extras)
    return tuple(inspect_image(path, "control_images", value_range) for path in paths)


def _check_counts(extras: ExtrasSettings) -> None:
    nets = len(extras.controlnets)
    for key in ("control_scales", "control_ends", "control_modes"):
        count = len(getattr(extras, key))
        if nets and count not in (1, nets):
            said_often = f" is given {count} times for {nets} ControlNets: give it once, or once for each"
            raise UsageError(option(key), said_often)


def ip_images(
    paths: tuple[Path, ...], extras: ExtrasSettings, value_range: Range | None = None
) -> tuple[InputImage, ...]:
    """The images of the IP-Adapter. Raises UsageError if there is one without the other."""
    if bool(paths) != bool(extras.ip_adapter):
        given, companion = ("ip_images", "ip_adapter") if paths else ("ip_adapter", "ip_images")
        raise UsageError(option(given), " wants ", option(companion))
    return tuple(inspect_image(path, "ip_images", value_range) for path in paths)


def each(values: tuple[Value, ...], count: int) -> tuple[Value, ...]:
    """One value per ControlNet: a single one serves all."""
    return values * count if len(values) == 1 else values


def locations_of(settings: Preset) -> tuple[str, ...]:
    """Every location that the settings name."""
    model, extras = settings.model, settings.extras
    named = (
        *model.repositories,
        *model.linfusion,
        model.unet,
        model.vae,
        model.vae_float16,
        *extras.controlnets,
        extras.ip_adapter,
        extras.ip_encoder,
    )
    named += (
        *(WeightedLora.parse(text).location for text in settings.loras),
        *(inversion(text)[0] for text in extras.textual_inversions),
    )
    return tuple(dict.fromkeys(location for location in named if location))


_fingerprint = looks_once(fingerprint)


def fingerprints(settings: Preset) -> dict[str, str]:
    """Location -> fingerprint of the weights there, of those on this machine that somebody could exchange."""
    return {name: _fingerprint(path) for name, path in _exchangeable(settings).items()}


def _exchangeable(settings: Preset) -> dict[str, Path]:
    """Name -> path of local weights outside the package and outside the hub's cache, which names files by hash.

    Other files of the same name are numbered: each is looked at.
    """
    found: dict[str, Path] = {}
    for location in locations_of(settings):
        path = local_path(location)
        if path is None:
            continue
        name = key = local_name(location)
        while key in found and found[key].resolve() != path.resolve():
            key = f"{name} ({int(key.removeprefix(name).strip(' ()') or 1) + 1})"
        found[key] = path
    return found


def local_name(location: str) -> str:
    """A location as strangers may see it: a file or folder of this machine by its name alone."""
    if leads_somewhere(user_path(location)):
        return Path(location).name
    name, rest = split_location(location)
    if not rest and ":" in location:  # the token of an embedding
        name, colon, token = location.rpartition(":")
        rest = colon + token
    return Path(name).name + rest if name and leads_somewhere(user_path(name)) else location


def local_names(values: Iterable[object]) -> tuple[str | float, ...]:
    """The same for the values of a repeated flag."""
    return tuple(local_name(value) if isinstance(value, str) else float(str(value)) for value in values)
