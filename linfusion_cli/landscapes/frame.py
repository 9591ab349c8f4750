"""Where an image's pixels lie in their scenes, and what every part of the renderer needs of a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from linfusion_cli.landscapes.scene import Scene
from linfusion_cli.landscapes.value_noise import uniform, value_noise

# Sky colours (horizon, zenith) and the light that falls on the land, by time of day.
SKY = {
    "dawn": ((0.98, 0.74, 0.64), (0.56, 0.63, 0.87), 0.85),
    "morning": ((0.96, 0.91, 0.76), (0.45, 0.72, 0.93), 1.00),
    "noon": ((0.76, 0.89, 0.98), (0.24, 0.54, 0.92), 1.10),
    "sunset": ((0.99, 0.62, 0.30), (0.55, 0.20, 0.45), 0.75),
    "dusk": ((0.72, 0.45, 0.62), (0.16, 0.15, 0.42), 0.50),
    "night": ((0.13, 0.17, 0.38), (0.02, 0.03, 0.12), 0.28),
}
TINT = {
    "red": (0.78, 0.18, 0.18),
    "green": (0.18, 0.52, 0.24),
    "blue": (0.18, 0.33, 0.68),
    "purple": (0.43, 0.20, 0.58),
    "golden": (0.83, 0.62, 0.18),
    "gray": (0.46, 0.47, 0.50),
    "teal": (0.08, 0.50, 0.50),
}
BODY = {"none": (0.0, 0.0, 0.0), "sun": (1.0, 0.93, 0.68), "moon": (0.93, 0.95, 1.0)}
SNOW = (0.93, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class View:
    """A window into a scene: its top left corner and its height, in units of the scene's height."""

    left: float = 0.0
    top: float = 0.0
    extent: float = 1.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A batch's coordinates and scenes; every tensor broadcasts to (batch, 1 or 3, height, width)."""

    scenes: tuple[Scene, ...]
    x: Tensor  # (B, 1, 1, W)
    y: Tensor  # (B, 1, H, 1), mirrored below a lake's shore
    depth: Tensor  # (B, 1, H, 1): below a lake's shore, positive = water
    pixel: Tensor  # (B, 1, 1, 1): a pixel's size in scene units
    seed: Tensor  # (B, 1, 1, 1) int64
    horizon: Tensor
    low: Tensor  # (B, 3, 1, 1): the sky at the horizon
    high: Tensor  # (B, 3, 1, 1): the sky overhead
    tint: Tensor
    light: Tensor
    body: Tensor  # (B, 3, 1, 1): colour of sun or moon
    place: Tensor  # (B, 3, 1, 1): its x, y and radius

    def where(self, **wanted: object) -> list[int]:
        """Numbers of the scenes with these attributes; a tuple allows several values."""
        return [
            index
            for index, scene in enumerate(self.scenes)
            if all(
                getattr(scene, name) in (value if isinstance(value, tuple) else (value,))
                for name, value in wanted.items()
            )
        ]

    def select(self, chosen: list[int]) -> Frame:
        """The frame of some of the batch's scenes."""
        scenes = tuple(self.scenes[index] for index in chosen)
        tensors = {field.name: getattr(self, field.name)[chosen] for field in fields(self) if field.name != "scenes"}
        return Frame(scenes=scenes, **tensors)

    def column(self, values: Sequence[float]) -> Tensor:
        """One number per scene, (B, 1, 1, 1)."""
        return torch.tensor(values, dtype=torch.float32, device=self.x.device).view(-1, 1, 1, 1)

    def shows(self, size: float | Tensor) -> Tensor:
        """0 where details of this size (in scene units) are below two pixels, rising to 1 at four."""
        return ((size / self.pixel) / 2 - 1).clamp(0, 1)


def make_frame(scenes: Sequence[Scene], height: int, width: int, views: Sequence[View], device: torch.device) -> Frame:
    """The frame of scenes seen through windows, `height` x `width` pixels each."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1, 1)

    def colours(values: Sequence[Sequence[float]]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 3, 1, 1)

    pixel = column([view.extent for view in views]) / height
    x = column([view.left for view in views]) + pixel * (torch.arange(width, device=device) + 0.5).view(1, 1, 1, width)
    y = column([view.top for view in views]) + pixel * (torch.arange(height, device=device) + 0.5).view(1, 1, height, 1)
    seed = torch.tensor([scene.seed for scene in scenes], dtype=torch.int64, device=device).view(-1, 1, 1, 1)
    horizon = 0.60 + 0.10 * (uniform(seed, 4) - 0.5)
    shore = horizon + 0.20 + 0.06 * uniform(seed, 5)
    lake = column([float(scene.lake) for scene in scenes])
    depth = torch.where(lake > 0, y - shore, torch.full_like(y, -1.0))
    ripple = 0.10 * depth * (value_noise(1.0 / (depth.clamp(min=0) + 0.02) * 6, seed + 6) - 0.5)
    sky = [SKY[scene.time] for scene in scenes]
    return Frame(
        scenes=tuple(scenes),
        x=x,
        y=torch.where(depth > 0, shore - 1.6 * depth + ripple, y),  # the lake is a mirror, seen at a low angle
        depth=depth,
        pixel=pixel,
        seed=seed,
        horizon=horizon,
        low=colours([entry[0] for entry in sky]),
        high=colours([entry[1] for entry in sky]),
        tint=colours([TINT[scene.tint] for scene in scenes]),
        light=column([entry[2] for entry in sky]),
        body=colours([BODY[scene.body] for scene in scenes]),
        place=colours([body_place(scene) for scene in scenes]),
    )


def body_place(scene: Scene) -> tuple[float, float, float]:
    """Centre x, centre y and radius of the sun or moon, in units of the scene's height."""
    x, y, radius = (float(uniform(torch.tensor(scene.seed), key)) for key in (1, 2, 3))
    return (0.18 + 0.64 * x) * scene.aspect, 0.14 + 0.34 * y, 0.05 + 0.06 * radius


def over(image: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    """`colour` painted over the image, opaque where cover is 1."""
    return torch.lerp(image, colour.expand_as(image), cover.expand_as(image))


def edge(distance: Tensor, pixel: Tensor) -> Tensor:
    """Coverage of a pixel whose centre lies `distance` inside a shape."""
    return (distance / pixel + 0.5).clamp(0, 1)


def saw(x: Tensor) -> Tensor:
    """x modulo 1."""
    return x - torch.floor(x)
