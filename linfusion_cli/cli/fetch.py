"""`linfusion fetch`: downloads the weights that presets need."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.flags import complete_preset
from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.wrapping import say
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.files import leads_somewhere, user_path

if TYPE_CHECKING:
    from linfusion_cli.weights.requirements import Kind, Requirement

EPILOG = """\b
Examples:
  linfusion fetch sd15-4k sdxl-4k
  linfusion fetch --model Lykon/dreamshaper-8
  linfusion fetch --lora owner/name/file.safetensors --controlnet lllyasviel/control_v11p_sd15_canny
  linfusion fetch sdxl-4k --offline      (says whether everything is here, and checks it)

\b
Only safetensors files are fetched. An interrupted download goes on where it was. Everything is checked against the
published hashes. Repositories that want a login: hf auth login, or HF_TOKEN. Another hub: HF_ENDPOINT. Another disk:
HF_HOME.
"""
Locations = list[str] | None


def fetch(
    presets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PRESET]...", help="Presets, or .toml files.", autocompletion=complete_preset),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="LOCATION", help="A model, with the LinFusion weights of its family.")
    ] = None,
    linfusion: Annotated[
        Locations, typer.Option("--linfusion", metavar="LOCATION", help="Linear attention. Repeatable.")
    ] = None,
    unet: Annotated[Locations, typer.Option("--unet", metavar="LOCATION", help="A UNet. Repeatable.")] = None,
    vae: Annotated[Locations, typer.Option("--vae", metavar="LOCATION", help="An autoencoder. Repeatable.")] = None,
    lora: Annotated[Locations, typer.Option("--lora", metavar="LOCATION", help="A LoRA. Repeatable.")] = None,
    inversion: Annotated[
        Locations, typer.Option("--textual-inversion", metavar="LOCATION", help="An embedding. Repeatable.")
    ] = None,
    controlnet: Annotated[
        Locations, typer.Option("--controlnet", metavar="LOCATION", help="A ControlNet. Repeatable.")
    ] = None,
    ip_adapter: Annotated[
        Locations, typer.Option("--ip-adapter", metavar="LOCATION", help="An IP-Adapter. Repeatable.")
    ] = None,
    ip_encoder: Annotated[
        Locations, typer.Option("--ip-encoder", metavar="LOCATION", help="An image encoder of one. Repeatable.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network: say what is missing, and check what is here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each thing, on stdout.")] = False,
    quiet: QuietFlag = False,
) -> None:
    """Download what presets need, and check it."""
    from linfusion_cli.config.extras import inversion as split_inversion
    from linfusion_cli.config.weighted_lora import WeightedLora
    from linfusion_cli.weights.requirements import Requirement

    requirements = _requirements_of(presets or [])
    if model is not None:
        requirements.append(Requirement("model", (model,), "", "fp16", ""))
    flags: dict[Kind, Locations] = {
        "linfusion": linfusion,
        "unet": unet,
        "vae": vae,
        "lora": [WeightedLora.parse(text).location for text in lora or []],
        "textual-inversion": [split_inversion(text)[0] for text in inversion or []],
        "controlnet": controlnet,
        "ip-adapter": ip_adapter,
        "ip-encoder": ip_encoder,
    }
    for kind, locations in flags.items():
        variant = "fp16" if kind in ("unet", "controlnet") else ""
        requirements += [Requirement(kind, (location,), "", variant, "") for location in locations or []]
    if not requirements:
        raise UsageError(
            "name what to fetch: a preset such as sd15-4k, or --model, --lora, ... "
            "List the presets: linfusion presets list"
        )
    _fetch_all(requirements, offline=offline, as_json=as_json, quiet=quiet)


def _requirements_of(presets: list[str]) -> list[Requirement]:
    from linfusion_cli.config.model_names import configured_folders, load_named
    from linfusion_cli.config.required_weights import requirements_of

    folders = configured_folders()
    found = [one for preset in presets for one in requirements_of(load_named(preset, folders).settings)]
    return list(dict.fromkeys(found))


def _fetch_all(requirements: list[Requirement], *, offline: bool, as_json: bool, quiet: bool) -> None:
    """Fetches each in turn, and the LinFusion weights of a model of unknown family. Fails at the end if one failed."""
    from linfusion_cli.cli.text import safe

    if as_json or quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    failures: list[str] = []
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop(0)
        try:
            path = _have(requirement, offline=offline, quiet=quiet or as_json)
            if requirement.kind == "model" and not requirement.family:
                waiting = _along(path) + waiting
            _tell(requirement, str(path), as_json=as_json, quiet=quiet)
        except WeightsError as error:
            failures.append(told(error))
            if as_json:
                emit(
                    sys.stdout,
                    "failed",
                    {"kind": requirement.kind, "locations": list(requirement.locations), "message": told(error)},
                )
            if len(requirements) > 1:
                say(f"failed: {safe(told(error))}", err=True)
    if failures:
        raise WeightsError(
            f"{len(failures)} of {len(requirements)} could not be fetched; the first: {failures[0]}"
            if len(requirements) > 1
            else failures[0]
        )


def _have(requirement: Requirement, *, offline: bool, quiet: bool) -> Path:
    """The path on this machine, after a download if it is missing, with its hash checked."""
    from linfusion_cli.cli.text import safe
    from linfusion_cli.weights.checksums import check_files
    from linfusion_cli.weights.hub_download import fetch as download
    from linfusion_cli.weights.locate import HubLocation, missing

    here = requirement.here()
    if here is None or (
        not offline
        and HubLocation.parse(requirement.locations[0]) is not None
        and not leads_somewhere(user_path(requirement.locations[0]))
    ):
        if offline:
            raise WeightsError(
                missing(requirement.locations, requirement.revision, requirement.parameter), ", without --offline"
            )
        here = download(requirement, (lambda text: None) if quiet else lambda text: say(safe(text), err=True))
    check_files(here)
    return here


def _along(model: Path) -> list[Requirement]:
    """The LinFusion weights that a model of this family needs too."""
    from linfusion_cli.config.extras import PRESET_OF
    from linfusion_cli.config.presets import load_preset
    from linfusion_cli.config.required_weights import requirements_of
    from linfusion_cli.weights.default_vae import has_vae, usual_vae
    from linfusion_cli.weights.requirements import Requirement
    from linfusion_cli.weights.weight_file import WeightFile, known_family

    found = WeightFile.resolve((str(model),), "", "model", variant="fp16")
    family = known_family(found)
    required = requirements_of(load_preset(PRESET_OF[family]).settings)
    vae = [] if has_vae(found) else [Requirement("vae", (usual_vae(family),), "", "", family)]
    return list(dict.fromkeys([*(one for one in required if one.kind != "model"), *vae]))


def _tell(requirement: Requirement, path: str, *, as_json: bool, quiet: bool) -> None:
    from linfusion_cli.cli.text import safe

    if as_json:
        emit(sys.stdout, "fetched", {"kind": requirement.kind, "locations": list(requirement.locations), "path": path})
    elif not quiet:
        say(f"{requirement.kind}: {safe(requirement.locations[0])} is here", err=True)
