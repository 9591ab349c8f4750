"""Previews: the image as the running step predicts it, small, from its latents, without the autoencoder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.sampling.clean_prediction import CleanPrediction
from linfusion_cli.events import Notify, PreviewMade
from linfusion_cli.geometry import MULTIPLE_PX, Size
from linfusion_cli.planning.render_plan import PreviewSettings
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.weights.families import LatentToRgb

LONG_SIDE_PX = 1024
SHARE_OF_TIME = 0.01  # that previews may take where nobody says how often they are made

# index of the prediction, the prediction, the noisy latents that it is about, and how x0 follows from both
Watch = Callable[[int, Tensor, Tensor, CleanPrediction], None]


def watch_nothing(index: int, prediction: Tensor, latents: Tensor, clean: CleanPrediction) -> None:
    """The watch of images without previews."""


@dataclass(slots=True)
class Previews:
    """The previews of one stage, as events. They change no latents, and draw no random numbers.

    predictions: how many the stage asks for. A preview is made of every `every`-th and of the last; where `every` is 0,
    of each before which all previews took less than SHARE_OF_TIME of the time.
    """

    settings: PreviewSettings
    stage: Stage
    predictions: int
    notify: Notify
    now: Callable[[], float] = time.monotonic
    _started: float | None = field(default=None, init=False)
    _spent_seconds: float = field(default=0.0, init=False)

    def __call__(self, index: int, prediction: Tensor, latents: Tensor, clean: CleanPrediction) -> None:
        """Makes a preview, if due. prediction, latents: (1, channels, height, width) of the canvas."""
        began = self.now()
        self._started = began if self._started is None else self._started
        if not self._due(index, began):
            return
        shown, margin = self.stage.size.latent(), self.stage.margin_px // MULTIPLE_PX
        rgb = preview_of(prediction, latents, clean, self.settings.colors, shown, margin)
        height, width, _ = rgb.shape
        self.notify(
            PreviewMade(
                stage=self.stage.index,
                done=index + 1,
                total=self.predictions,
                width=width,
                height=height,
                rgb=rgb.numpy().tobytes(),
            )
        )
        self._spent_seconds += self.now() - began

    def _due(self, index: int, now: float) -> bool:
        assert self._started is not None
        if self.settings.every:
            return (index + 1) % self.settings.every == 0 or index + 1 == self.predictions
        return self._spent_seconds <= SHARE_OF_TIME * (now - self._started)


def preview_of(
    prediction: Tensor, latents: Tensor, clean: CleanPrediction, colors: LatentToRgb, shown: Size, margin: int = 0
) -> Tensor:
    """x0 in colours: uint8 (height, width, 3) on the CPU, a pixel for each latent or square of latents.

    The longer side has at most LONG_SIDE_PX. Prediction and latents are shrunk first, and x0 is worked out from these,
    which is the same since it is linear in both: no copy of the latents is made. shown, margin: the size in latents of
    the part of the canvas that is the image, and where it begins, from the left and from the top.
    """
    factor = -(-max(shown.width, shown.height) // LONG_SIDE_PX)
    shrunk = [_shrunk(values[0], factor) for values in (prediction, latents)]
    rows, columns = (
        slice(margin // factor, margin // factor + -(-side // factor)) for side in (shown.height, shown.width)
    )
    found = clean.clean(*shrunk)[:, rows, columns]
    weights = torch.tensor(colors.factors, dtype=found.dtype, device=found.device)
    colored = torch.einsum("chw,cr->hwr", found, weights) + torch.tensor(colors.bias).to(found)
    levels = colored.mul(127.5).add(127.5).nan_to_num(0.0).clamp(0, 255)
    return levels.to(torch.uint8).cpu().contiguous()


def _shrunk(values: Tensor, factor: int) -> Tensor:
    """The means of squares of factor x factor; those at the right and at the bottom may be narrower."""
    return values if factor == 1 else F.avg_pool2d(values[None], factor, ceil_mode=True)[0]
