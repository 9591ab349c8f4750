"""The ControlNets of one stage: their images fitted to its size, and the steps at which they act."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.config.extras import each
from linfusion_cli.config.input_images import InputImage
from linfusion_cli.config.job import Job
from linfusion_cli.engine.controlnet.banded import BandedControlNet, WholeOrBandedControlNet
from linfusion_cli.engine.controlnet.model import ControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.sampling.denoiser import Control
from linfusion_cli.engine.streaming.image_source import canny, read_fitted, unit_field
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Extended, Field
from linfusion_cli.planning.upscale_schedule import Stage


def stage_controls(
    nets: tuple[ControlNet, ...], job: Job, stage: Stage, timesteps: Tensor, store: ActivationStore, weights: Weights
) -> tuple[Control, ...]:
    """One Control per ControlNet, with the attention that the stage has; at stage 0 a ControlNet keeps its own."""
    extras = job.settings.extras
    scales, ends = each(extras.control_scales, len(nets)), each(extras.control_ends, len(nets))
    controls: list[Control] = []
    for net, image, scale, end in zip(nets, job.control_images, scales, ends, strict=True):
        acting = frozenset(float(timestep) for timestep in timesteps[: int(end * len(timesteps) + 1e-6)])
        if scale and acting:
            model = weights.move(net.attend(stage.attention if stage.index else "softmax"))
            kind = BandedControlNet if stage.bands.unet_latent else WholeOrBandedControlNet.of
            network: BandedControlNet | WholeOrBandedControlNet = kind(model, stage.band_latent, store, weights)
            controls.append(
                Control(
                    network,
                    network.condition(control_field(image, extras.control_preprocess, stage, store.device)),
                    scale,
                    acting,
                )
            )
    return tuple(controls)


def control_field(image: InputImage, preprocess: str, stage: Stage, device: torch.device) -> Field:
    """A control image, 3 channels in [0, 1], of the stage's canvas."""
    pixels = read_fitted(image, "--control-image", stage.size)
    if preprocess == "canny":
        pixels = canny(pixels)
    return Extended(Resized.to(unit_field(pixels, device), stage.size, "lanczos", 0.0, 1.0), stage.canvas)
