"""The models of the last picture, kept loaded for the next one that needs the same."""

from __future__ import annotations

import gc
import json

import torch

from linfusion_cli.engine.models import Models, load
from linfusion_cli.events import Notify
from linfusion_cli.plan import Plan

PICTURE_SECTIONS = {"sampling", "upscale", "output"}  # settings that no loading depends on


class Shelf:
    """Room for the models of one kind of picture: memory is planned for one."""

    def __init__(self) -> None:
        self._key = ""
        self._models: Models | None = None

    def load(self, plan: Plan, notify: Notify) -> Models:
        """Like models.load; what is on the shelf already is not loaded again. Its text encoders must stay."""
        key = model_key(plan)
        if self._models is None or key != self._key:
            self._models = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._models, self._key = load(plan, notify), key
        return self._models


def model_key(plan: Plan) -> str:
    """Everything that loading depends on: the same for two plans exactly if they can share their models."""
    settings = plan.job.settings.model_dump(mode="json", exclude=PICTURE_SECTIONS)
    attentions = [stage.attention for stage in plan.stages]
    return json.dumps([settings, dict(plan.job.weights), plan.dtype, plan.machine.device, attentions], sort_keys=True)
