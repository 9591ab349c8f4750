"""What a training of the denoiser teaches, in numbers: read by the command's help, so nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LINEAR_SHARE = 0.7
WHOLE_SHARES = (0.47, 0.18, 0.09)  # of the steps, by bucket of whole scenes
WINDOW_SHARES = (0.12, 0.08, 0.06)  # and of windows
WINDOW_SHARE = 0.26  # of all windows together


@dataclass(frozen=True, slots=True)
class Lessons:
    """How a denoiser is trained.

    linear_share:     0 to 1, of the steps, those with linear attention; 0 makes a pure softmax teacher
    window_share:     0 to 1, those on windows: more than WINDOW_SHARE teach a trained model to sharpen what it upscales
    start:            the folder of a model that is trained further, None for a new one
    keep_composition: at high noise, where an image is composed, the model learns what `start` predicts
    """

    linear_share: float = LINEAR_SHARE
    window_share: float = WINDOW_SHARE
    start: Path | None = None
    keep_composition: bool = False

    def identity(self) -> dict[str, float | str | bool]:
        """What a checkpoint must share with a run to be gone on from."""
        return {
            "linear_share": self.linear_share,
            "window_share": self.window_share,
            "start": self.start.name if self.start else "",
            "keep_composition": self.keep_composition,
        }
