"""The autoencoder for a checkpoint that holds none ("NoVAE"): the usual one of its family."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.pipeline_settings import INDEX, read_json_object
from linfusion_cli.weights.single_file_layouts import prefixes
from linfusion_cli.weights.weight_file import WeightFile


def default_vae(locations: tuple[str, ...], revision: str, family: str) -> str:
    """The location of the autoencoder to use with the first of these models that is on this machine.

    "" if the model has its own, if none of them is here, or if it can't be read, which the plan reports.
    """
    try:
        model = WeightFile.resolve(locations, revision, "checkpoint")
        return "" if model.path is None or has_vae(model) else usual_vae(family)
    except WeightsError:
        return ""


def usual_vae(family: str) -> str:
    """The location of a family's usual autoencoder."""
    return FAMILY_ROWS[family].vae


def has_vae(model: WeightFile) -> bool:
    """Whether a model on this machine has an autoencoder of its own. Raises WeightsError for damaged files.

    One of the hub has the part that its index lists even while that is not fetched yet.
    """
    path = model.open()
    if path.is_file():
        decoders = tuple(f"{prefix}decoder." for prefix in prefixes("vae"))  # a damaged one too: it is not replaced
        return any(name.startswith(decoders) for name in model.tensors)
    fetched = not any(Path(location).expanduser() == path for location in model.locations)
    listed = read_json_object(path / INDEX).get("vae") if fetched and (path / INDEX).is_file() else None
    return (path / "vae").is_dir() or (isinstance(listed, list) and bool(listed) and listed[-1] is not None)
