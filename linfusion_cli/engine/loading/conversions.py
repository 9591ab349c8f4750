"""The tensors of a part of a model under the names of diffusers, from each naming that one file may have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from linfusion_cli.engine.compat_diffusers import clip_tensors, open_clip_tensors, unet_tensors, vae_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.single_file import lost, unused
from linfusion_cli.weights.single_file_layouts import LAYOUTS, Named, Naming

Tensors = dict[str, Tensor]
LDM_UNET = LAYOUTS["original"].unet.prefix  # which the conversion of diffusers expects


def to_diffusers(given: Tensors, way: Named, config: dict[str, Any], path: Path) -> Tensors:
    """The tensors of one part, named as in the file `path`, under the names of diffusers.

    config: of the part. Raises WeightsError if the tensors are not those of the config.
    """
    try:
        return CONVERSIONS[way.naming](given, way.prefix, config, path)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = "has other layers than its config"
        raise WeightsError(f"{path}: {what}: another architecture, or a damaged file") from error


def _diffusers(given: Tensors, prefix: str, config: dict[str, Any], path: Path) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in given.items()}


def _ldm_unet(given: Tensors, prefix: str, config: dict[str, Any], path: Path) -> Tensors:
    renamed = {LDM_UNET + name.removeprefix(prefix): tensor for name, tensor in given.items()}
    return _whole(renamed, unet_tensors, config, path)


def _ldm_vae(given: Tensors, prefix: str, config: dict[str, Any], path: Path) -> Tensors:
    return _whole(given, vae_tensors, config, path)


def _whole(
    given: Tensors, convert: Callable[[Tensors, dict[str, Any]], Tensors], config: dict[str, Any], path: Path
) -> Tensors:
    """What is converted, once it is known that no tensor was dropped on the way."""
    for name in unused(given):
        del given[name]
    found = convert(dict(given), config)
    lost(given, found, str(path))
    return found


def _clip(given: Tensors, prefix: str, config: dict[str, Any], path: Path) -> Tensors:
    return clip_tensors(given)


def _open_clip(given: Tensors, prefix: str, config: dict[str, Any], path: Path) -> Tensors:
    """A text encoder of OpenCLIP, without the layers behind the one whose output the model reads."""
    blocks = f"{prefix}transformer.resblocks."
    layers = {f"{blocks}{number}." for number in range(config["num_hidden_layers"])}
    for name in list(given):
        if name.startswith(blocks) and f"{blocks}{name.removeprefix(blocks).split('.')[0]}." not in layers:
            del given[name]
    return open_clip_tensors(given, config["hidden_size"], prefix)


CONVERSIONS: dict[Naming, Callable[[Tensors, str, dict[str, Any], Path], Tensors]] = {
    "diffusers": _diffusers,
    "ldm_unet": _ldm_unet,
    "ldm_vae": _ldm_vae,
    "clip": _clip,
    "open_clip": _open_clip,
}
