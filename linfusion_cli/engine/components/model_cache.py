"""The components of an image: encoders first, then UNet and VAE; kept for the next image that needs the same."""

from __future__ import annotations

import gc

import torch

from linfusion_cli.engine.components.prompt_encoder import encode
from linfusion_cli.engine.components.text_encoders import TextEncoders, load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import Components, load
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.events import Notify
from linfusion_cli.planning.render_plan import RenderPlan


class ModelCache:
    """Keeps the components of one kind of image: memory is planned for one."""

    def __init__(self) -> None:
        self._key = ""
        self._text_encoders: TextEncoders | None = None
        self._components: Components | None = None

    def take(self, plan: RenderPlan, notify: Notify) -> tuple[Conditioning, Components]:
        """Encodes the plan's prompt and loads its components. Components in the cache are not loaded again.

        Unless they stay for the next image, the text encoders are freed before the UNet and the VAE are loaded. Raises
        WeightsError as loading does, and UsageError for a damaged image.
        """
        key = plan.components.cache_key
        if self._text_encoders is not None and key != self._key:
            self._clear()
        text_encoders = self._text_encoders = self._text_encoders or load_text_encoders(plan)
        if self._components is not None:
            self._components.mounted.attend("softmax")  # as it was loaded: so it is signed
            if not plan.components_stay:
                self._components.leave_device()
        conditioning = encode(text_encoders, plan.conditioning, notify, torch.device(plan.machine.device))
        if not plan.keep_text_encoders:
            text_encoders.release()
        if self._components is None:
            self._components = load(plan, text_encoders, notify)
            text_encoders.own()
        self._key = key if plan.keep_text_encoders else ""  # without text_encoders nothing here serves another image
        return conditioning, self._components

    def _clear(self) -> None:
        """Lets go of everything, and gives the memory back."""
        self._text_encoders = self._components = None
        self._key = ""
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
