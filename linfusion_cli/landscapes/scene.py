"""What a landscape holds: its attributes, drawn at random and said in words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from linfusion_cli.models.landscape_words import (
    CLEAR,
    FILLERS,
    FOG,
    LAKE,
    MOON,
    SNOW,
    STARS,
    SUN,
    TERRAINS,
    TIMES,
    TINTS,
)

BODIES = ("none", "sun", "moon")


@dataclass(frozen=True, slots=True)
class Scene:
    """One landscape, resolution-free.

    `aspect` is width / height of the whole scene; the scene spans y in [0, 1] and x in [0, aspect].
    `seed` fixes every shape and place in it.
    """

    time: str
    terrain: str
    tint: str
    body: str
    lake: bool
    fog: bool
    snow: bool
    stars: bool
    layers: int
    aspect: float
    seed: int


def sample_scene(rng: random.Random, aspect: float = 1.0) -> Scene:
    """Draws a scene; only likely combinations occur (no sun at night, no lake among islands)."""
    time = rng.choice(list(TIMES))
    terrain = rng.choice(list(TERRAINS))
    dark = time in ("night", "dusk")
    return Scene(
        time=time,
        terrain=terrain,
        tint=rng.choice(list(TINTS)),
        body=rng.choice(("moon", "moon", "none") if dark else ("sun", "sun", "none")),
        lake=terrain != "islands" and rng.random() < 0.35,
        fog=rng.random() < 0.3,
        snow=terrain in ("mountains", "hills", "forest") and rng.random() < 0.35,
        stars=time == "night" and rng.random() < 0.75,
        layers=rng.choice((2, 3, 4)),
        aspect=aspect,
        seed=rng.randrange(1 << 30),
    )


def caption(scene: Scene, rng: random.Random) -> str:
    """Says the scene in words: a head (tint, terrain, time) and the rest in any order, with synonyms."""
    tint = rng.choice(TINTS[scene.tint])
    terrain = rng.choice(TERRAINS[scene.terrain])
    time = rng.choice(TIMES[scene.time])
    with_tint = (f"{tint} {terrain} at {time}",) * 3 + (f"{time} over {tint} {terrain}", f"{tint} {terrain}, {time}")
    head = f"{terrain} at {time}" if rng.random() < 0.08 else rng.choice(with_tint)
    rest = [rng.choice(words) for present, words in details(scene) if present and rng.random() < 0.92]
    if rng.random() < 0.2:
        rest.append(rng.choice(FILLERS))
    if rng.random() < 0.03:  # unknown words must not upset the image
        rest.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8))))
    rng.shuffle(rest)
    return ", ".join([head, *rest])


def details(scene: Scene) -> tuple[tuple[bool, tuple[str, ...]], ...]:
    """What a scene holds beside tint, terrain and time: whether it is there, and the phrases that say so."""
    return (
        (scene.body == "sun", SUN),
        (scene.body == "moon", MOON),
        (scene.body == "none" and not scene.stars, CLEAR),
        (scene.lake, LAKE),
        (scene.fog, FOG),
        (scene.snow, SNOW),
        (scene.stars, STARS),
    )
