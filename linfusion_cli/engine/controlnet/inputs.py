"""The ControlNets of one stage: their images fitted to its size, and the steps at which they act."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.engine.controlnet.banded import BandedControlNet, WholeOrBandedControlNet, banded
from linfusion_cli.engine.controlnet.model import ControlNet
from linfusion_cli.engine.controlnet.t2i_adapter import T2IFeatures, T2INet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.sampling.denoiser import Control
from linfusion_cli.engine.streaming.image_source import canny, read_fitted, unit_field
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Extended, Field
from linfusion_cli.planning.render_plan import ControlInput
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.weights.controlnet_file import POOLED


def stage_controls(
    nets: tuple[ControlNet | T2INet, ...],
    inputs: tuple[ControlInput, ...],
    stage: Stage,
    timesteps: Tensor,
    store: ActivationStore,
    weights: Weights,
) -> tuple[Control, ...]:
    """One Control per ControlNet, with the attention that the stage has; at stage 0 a ControlNet keeps its own."""
    controls: list[Control] = []
    for net, given in zip(nets, inputs, strict=True):
        acting = frozenset(float(timestep) for timestep in timesteps[: int(given.end * len(timesteps) + 1e-6)])
        if given.scale and acting and isinstance(net, T2INet):
            features = T2IFeatures(weights.move(net.model), stage.band_latent, store, weights)
            condition = features.condition(control_field(given, stage, store.device))
            controls.append(Control(features, condition, given.scale, acting))
        elif given.scale and acting:
            model = weights.move(net.attend(stage.attention if stage.index else "softmax"))
            kind = banded if stage.bands.unet_latent else WholeOrBandedControlNet.of
            network: BandedControlNet | WholeOrBandedControlNet = kind(
                model, given.mode, stage.band_latent, store, weights
            )
            embedded = network.condition(control_field(given, stage, store.device))
            controls.append(Control(network, embedded, given.scale, acting, prompt_only=model.config[POOLED]))
    return tuple(controls)


def control_field(given: ControlInput, stage: Stage, device: torch.device) -> Field:
    """A control image, 3 channels in [0, 1], of the stage's canvas."""
    pixels = read_fitted(given.image, "control_images", stage.size)
    if given.preprocess == "canny":
        pixels = canny(pixels)
    return Extended(
        Resized.to(unit_field(pixels, device), stage.size, "lanczos", 0.0, 1.0), stage.canvas, stage.margin_px
    )
