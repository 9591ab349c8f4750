"""Which study a folder of images is of: written once, and compared with before images are added."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linfusion_cli.errors import OutputError, UsageError, option
from linfusion_cli.evaluate.samples import Way
from linfusion_cli.files import write_atomically
from linfusion_cli.geometry import Size
from linfusion_cli.json_files import read_json

ASKED = "asked.json"
IMAGES_PER_SEED = 1_000_000  # so that the images of two studies have other seeds


def image_seed(seed: int, index: int) -> int:
    """The seed of an image of a study, counted from 0."""
    return seed * IMAGES_PER_SEED + index


def about_images(size: Size, preset: str, way: Way, seed: int, prompts: list[str]) -> dict[str, Any]:
    """What decides the images of a study, as its folder keeps it."""
    return {"size": str(size), "preset": preset, "way": asdict(way), "seed": seed, "prompts": prompts}


def claim_folder(folder: Path, about: dict[str, Any]) -> None:
    """Writes into a folder what its images are of: about["prompts"], and everything else that decides pixels.

    A study with more prompts replaces the file; one with fewer uses the first images. Raises UsageError if the folder
    is of another study, OutputError if it can't be read or written.
    """
    path = folder / ASKED
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = read_json(path) if path.exists() else about
        shared = min(len(about["prompts"]), len(found["prompts"]))
        ours, theirs = ({**one, "prompts": one["prompts"][:shared]} for one in (about, found))
        differing = [name for name in ours if ours[name] != theirs[name]]
        if not differing and (found is about or len(about["prompts"]) > shared):
            write_atomically(path, json.dumps(about, indent=1) + "\n")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{folder}: can't be used ({error})") from error
    if differing:
        raise UsageError(
            f"{folder} holds another evaluation: {differing[0]} differs. Name another folder with ",
            option("output"),
            ", or remove it",
        )
