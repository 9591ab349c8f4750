"""The models of a picture: what reads first, then what draws; kept for the next picture that needs the same."""

from __future__ import annotations

import gc
import json

import torch

from linfusion_cli.engine.conditioning import encode
from linfusion_cli.engine.denoiser import Conditioning
from linfusion_cli.engine.models import Models, load
from linfusion_cli.engine.readers import Readers, load_readers
from linfusion_cli.events import Notify
from linfusion_cli.plan import Plan

PICTURE_SECTIONS = {"sampling", "upscale", "output"}  # settings that no loading depends on


class Shelf:
    """Room for the models of one kind of picture: memory is planned for one."""

    def __init__(self) -> None:
        self._key = ""
        self._readers: Readers | None = None
        self._models: Models | None = None

    def take(self, plan: Plan, notify: Notify) -> tuple[Conditioning, Models]:
        """What the plan's prompt says, and what draws; what is on the shelf already is not loaded again.

        Unless they stay for the next picture, what reads is gone before what draws is loaded. Raises WeightsError as loading
        does, and UsageError for a damaged picture.
        """
        key = model_key(plan)
        if self._readers is not None and key != self._key:
            self._clear()
        readers = self._readers = self._readers or load_readers(plan)
        if self._models is not None:
            self._models.leave_device()
        conditioning = encode(readers, plan.job, notify, torch.device(plan.machine.device))
        if not plan.readers_stay:
            readers.release()
        if self._models is None:
            self._models = load(plan, readers, notify)
            readers.own()
        self._key = key if plan.readers_stay else ""  # without readers nothing here serves another picture
        return conditioning, self._models

    def _clear(self) -> None:
        """Lets go of everything, and gives the memory back."""
        self._readers = self._models = None
        self._key = ""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def model_key(plan: Plan) -> str:
    """Everything that loading depends on: the same for two plans exactly if they can share their models."""
    settings = plan.job.settings.model_dump(mode="json", exclude=PICTURE_SECTIONS)
    attentions = [stage.attention for stage in plan.stages]
    return json.dumps([settings, dict(plan.job.weights), plan.dtype, plan.machine.device, attentions], sort_keys=True)
