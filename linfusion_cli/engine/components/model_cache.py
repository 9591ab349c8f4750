"""The models of an image: what reads first, then what draws; kept for the next image that needs the same."""

from __future__ import annotations

import gc
import json

import torch

from linfusion_cli.engine.components.prompt_encoder import encode
from linfusion_cli.engine.components.text_encoders import TextEncoders, load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import Models, load
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.events import Notify
from linfusion_cli.planning.planner import Plan

IMAGE_SECTIONS = {"sampling", "upscale", "output"}  # settings that no loading depends on


class ModelCache:
    """StoreBudget for the models of one kind of image: memory is planned for one."""

    def __init__(self) -> None:
        self._key = ""
        self._text_encoders: TextEncoders | None = None
        self._models: Models | None = None

    def take(self, plan: Plan, notify: Notify) -> tuple[Conditioning, Models]:
        """What the plan's prompt says, and what draws; what is on the model_cache already is not loaded again.

        Unless they stay for the next image, what reads is gone before what draws is loaded. Raises WeightsError as loading
        does, and UsageError for a damaged image.
        """
        key = model_key(plan)
        if self._text_encoders is not None and key != self._key:
            self._clear()
        text_encoders = self._text_encoders = self._text_encoders or load_text_encoders(plan)
        if self._models is not None:
            self._models.leave_device()
        conditioning = encode(text_encoders, plan.job, notify, torch.device(plan.machine.device))
        if not plan.keep_text_encoders:
            text_encoders.release()
        if self._models is None:
            self._models = load(plan, text_encoders, notify)
            text_encoders.own()
        self._key = key if plan.keep_text_encoders else ""  # without text_encoders nothing here serves another image
        return conditioning, self._models

    def _clear(self) -> None:
        """Lets go of everything, and gives the memory back."""
        self._text_encoders = self._models = None
        self._key = ""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def model_key(plan: Plan) -> str:
    """Everything that loading depends on: the same for two plans exactly if they can share their models."""
    settings = plan.job.settings.model_dump(mode="json", exclude=IMAGE_SECTIONS)
    attentions = [stage.attention for stage in plan.stages]
    return json.dumps([settings, dict(plan.job.weights), plan.dtype, plan.machine.device, attentions], sort_keys=True)
