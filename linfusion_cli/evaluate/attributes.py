"""The attributes that the classifier names, and how prompts state them."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from linfusion_cli.landscapes.scene import BODIES, Scene, details, sample_scene
from linfusion_cli.models.landscape_words import FOG, LAKE, MOON, SNOW, STARS, SUN, TERRAINS, TIMES, TINTS

# Attribute -> its classes, in the order of the classifier's outputs.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": tuple(TIMES),
    "terrain": tuple(TERRAINS),
    "tint": tuple(TINTS),
    "body": BODIES,
    "lake": ("no", "yes"),
    "fog": ("no", "yes"),
    "snow": ("no", "yes"),
    "stars": ("no", "yes"),
}
PRESENCE = {"lake": LAKE, "fog": FOG, "snow": SNOW, "stars": STARS}


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the attributes that it states.

    truth: attribute -> class, as in ATTRIBUTES; what the prompt leaves open is missing
    scene: a scene that the prompt describes; None for a user's prompt
    """

    prompt: str
    truth: dict[str, str]
    scene: Scene | None = None


def truth_of(scene: Scene) -> dict[str, str]:
    """Every attribute of a scene: attribute -> class, in the order of ATTRIBUTES."""
    presence = {name: ("no", "yes")[getattr(scene, name)] for name in PRESENCE}
    return {"time": scene.time, "terrain": scene.terrain, "tint": scene.tint, "body": scene.body, **presence}


def full_caption(scene: Scene) -> str:
    """A caption that states every attribute once, always in the same words."""
    rest = [words[0] for present, words in details(scene) if present]
    return ", ".join([f"{TINTS[scene.tint][0]} {TERRAINS[scene.terrain][0]} at {TIMES[scene.time][0]}", *rest])


def fixed_prompts(count: int, seed: int, aspect: float = 1.0) -> tuple[Asked, ...]:
    """The prompts of an evaluation. A smaller count with the same seed and aspect gives the first of them.

    aspect: width over height of the images
    """
    rng = random.Random(f"evaluate/{seed}")
    scenes = [replace(sample_scene(rng, 1.0), aspect=aspect) for _ in range(count)]
    return tuple(Asked(full_caption(scene), truth_of(scene), scene) for scene in scenes)


def read_prompt(prompt: str) -> Asked:
    """Finds the attributes that a user's prompt states.

    A prompt that names two classes of an attribute leaves it open. Lake, fog, snow and stars are "yes" where they are
    named, open otherwise.
    """
    truth: dict[str, str] = {}
    for name, table in (("time", TIMES), ("terrain", TERRAINS), ("tint", TINTS), ("body", {"sun": SUN, "moon": MOON})):
        found = [key for key, words in table.items() if any(_says(prompt, word) for word in words)]
        if len(found) == 1:
            truth[name] = found[0]
    truth |= {name: "yes" for name, words in PRESENCE.items() if any(_says(prompt, word) for word in words)}
    return Asked(prompt, truth)


def _says(prompt: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}\b", prompt.lower()) is not None
