"""Loads the networks that draw an image: safetensors only, no code from elsewhere, nothing downloaded unasked.

The encoders that read the prompt are loaded by text_encoders.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from linfusion_cli.engine.adapters.adapter_stack import Mounted
from linfusion_cli.engine.attention.kernel_choice import choose_kernels
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.components.text_encoders import TextEncoders, part_name
from linfusion_cli.engine.controlnet.model import ControlNet
from linfusion_cli.engine.controlnet.t2i_adapter import T2INet
from linfusion_cli.engine.loading.from_config import maker
from linfusion_cli.engine.loading.model_files import FileSource, FolderSource, Source
from linfusion_cli.engine.loading.safetensors_loader import build, fill, own_all
from linfusion_cli.engine.loading.unet_source import prediction_of
from linfusion_cli.engine.memory.dtypes import DTYPES
from linfusion_cli.engine.memory.weight_offload import WaitingWeights, Weights
from linfusion_cli.engine.streaming import fused_softmax
from linfusion_cli.engine.streaming.fused_layers import fault_of
from linfusion_cli.errors import Message, WeightsError, option
from linfusion_cli.events import Note, Notify
from linfusion_cli.planning.model_shapes import family_architecture
from linfusion_cli.planning.render_plan import ComponentInputs, RenderPlan
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.model_family import kind_of
from linfusion_cli.weights.t2i_adapter import is_t2i_adapter
from linfusion_cli.weights.used_files import linfusion_folder
from linfusion_cli.weights.weight_file import WeightFile


@dataclass(frozen=True, slots=True)
class Components:
    """Everything that draws an image, and nothing that depends on its prompt or its size.

    mounted: the UNet with what goes on and off it: LinFusion, LoRA, IP-Adapter
    waiting: where their weights are while the device encodes a prompt
    fused: norms, GEGLU and the autoencoder's attention run in fused kernels, as linear attention does
    """

    mounted: Mounted
    vae: Any
    scheduler_config: dict[str, Any]
    controlnets: tuple[ControlNet | T2INet, ...] = ()
    waiting: WaitingWeights = field(default_factory=WaitingWeights)
    fused: bool = False

    @property
    def unet(self) -> Any:
        return self.mounted.unet

    @property
    def modules(self) -> tuple[Any, ...]:
        """Every network that decides pixels, beside the encoders of the prompt."""
        return (self.unet, self.vae, *self.mounted.modules, *(net.model for net in self.controlnets))

    def leave_device(self) -> None:
        """Moves them off the device for the encoders: it need not hold both at once."""
        self.mounted.attend("softmax")
        for module in self.modules:
            self.waiting.take(module)

    def move(self, weights: Weights) -> None:
        """Moves everything to where the plan wants it."""
        own_all(self.vae, weights.device)
        for unet in (self.unet, *(net.model for net in self.controlnets)):
            weights.move(unet)


def load(plan: RenderPlan, text_encoders: TextEncoders, notify: Notify) -> Components:
    """Loads the UNet and the VAE in the plan's number format and fills the empty UNet of `text_encoders`.

    Tensors may still be parts of mapped files; `move` copies them to the plan's device. Raises WeightsError: with the
    command that fetches them if weights are not on this machine, naming the first tensor that does not fit if they are
    of another model.
    """
    inputs, source, dtype = plan.components, text_encoders.source, DTYPES[plan.dtype]
    own = text_encoders.unet_source
    unet = fill(text_encoders.pipeline.unet, [own.tensors("unet", dtype)], part_name(own, "unet"))
    unet.requires_grad_(False)
    vae = _vae(inputs, source, dtype)
    config = _scheduler_config(source, inputs, notify, prediction_of(own))
    linfusion = _linfusion(inputs, unet, dtype) if _linear(plan) else None
    fused = fuse(plan, linfusion, vae, notify)
    mounted = Mounted(unet, linfusion, text_encoders.loras, text_encoders.ip_adapter)
    controlnets = tuple(_control(file, unet, dtype, linfusion) for file in inputs.controlnets)
    return Components(mounted, vae, config, controlnets, fused=fused)


def fuse(plan: RenderPlan, linfusion: LinFusion | None, vae: Any, notify: Notify) -> bool:
    """Whether norms and GEGLU run in fused kernels; tries all kernels of the plan, and tells once which fail."""
    if plan.kernels == "plain":
        return False
    device, dtype = torch.device(plan.machine.device), DTYPES[plan.dtype]
    text = choose_kernels(linfusion, plan.kernels, device, dtype) if linfusion else ""
    fault = next(filter(None, (fault_of(device, one) for one in {dtype, vae.dtype, torch.float32})), "")
    softmax_fault = _softmax_fault(vae, device)
    what, why = "the autoencoder's attention", softmax_fault
    if fault:  # then the autoencoder's attention is plain too, whatever its own trial says
        what, why = f"norms, GEGLU and {what}", fault
    if text or why:
        notify(
            Note(text=text or f"the fused kernels of {what} do not run on {device} ({why}): the plain ones are used")
        )
    return not fault


def _softmax_fault(vae: Any, device: torch.device) -> str:
    """Why the attention in the middle of the autoencoder has no kernel where it would have one; else ""."""
    if vae.dtype not in fused_softmax.DTYPES or not vae.config.mid_block_add_attention:
        return ""
    return fused_softmax.fault_of(device, vae.dtype, vae.config.block_out_channels[-1])


def _control(file: WeightFile, unet: Any, dtype: torch.dtype, linfusion: LinFusion | None) -> ControlNet | T2INet:
    """A ControlNet, or the T2I-Adapter that a file or folder holds."""
    if is_t2i_adapter(file.open(), file.headers):
        return T2INet.load(file, unet, dtype)
    return ControlNet.load(file, unet, dtype, linfusion)


def _linear(plan: RenderPlan) -> bool:
    return any(stage.attention == "linear" for stage in plan.stages)


def _vae(inputs: ComponentInputs, source: Source, dtype: torch.dtype) -> Any:
    """The autoencoder: another one if the preset names it, in float32 where its config says that float16 overflows."""
    if inputs.vae is not None:
        source = _vae_source(inputs.vae, inputs)
    config = source.config("vae")
    if dtype == torch.float16 and config.get("force_upcast", family_architecture(inputs.family).vae.upcast):
        dtype = torch.float32
    about = part_name(source, "vae")
    return build(maker(AutoencoderKL, config, about), [source.tensors("vae", dtype)], about).requires_grad_(False)


def _vae_source(file: WeightFile, inputs: ComponentInputs) -> Source:
    """A folder with the VAE itself, a whole model, or one file: in the original layout, or in that of diffusers."""
    path = file.open()
    if path.is_dir():
        return FolderSource(path, file.headers, lone=not (path / "vae").is_dir())
    if kind_of(file.header.tensors) not in ("vae", "checkpoint"):
        raise WeightsError(f"{path}: holds no autoencoder", parameter="vae")
    return FileSource.of(file.header, inputs.family, inputs.configs)


def _scheduler_config(source: Source, inputs: ComponentInputs, notify: Notify, of_unet: str = "") -> dict[str, Any]:
    """The noise schedule that the model was trained with, or the one that the user names.

    of_unet: what another UNet says that it predicts, "" if there is none or it does not say
    """
    config = {key: value for key, value in source.config("scheduler").items() if not key.startswith("_")}
    prediction = inputs.prediction
    if FAMILY_ROWS[inputs.family].old_configs:
        config["steps_offset"] = 1  # as StableDiffusionPipeline sets it; configs of 2022 lack it
    if prediction == "auto" and of_unet:
        return config | {"prediction_type": of_unet}
    if prediction == "auto":
        if (
            isinstance(source, FileSource)
            and not source.says_prediction
            and config.get("prediction_type") == "v_prediction"
        ):
            notify(
                Note(
                    text=Message(
                        f"{source.path.name} does not say what it predicts: taken as v_prediction. ",
                        "If the image is noise: ",
                        option("prediction", "epsilon"),
                    )
                )
            )
        return config
    config["prediction_type"] = prediction.removesuffix("_zero_snr")
    if prediction.endswith("_zero_snr"):
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def _linfusion(inputs: ComponentInputs, unet: Any, dtype: torch.dtype) -> LinFusion:
    """The linear attention, once it has said that it is for this UNet."""
    folder = _linfusion_folder(inputs)
    linfusion = LinFusion.load(folder, dtype, keep_projections=inputs.keep_projections)
    try:
        linfusion.check(unet)
    except WeightsError as error:
        raise WeightsError(f"{folder}: {error}", parameter="linfusion") from error
    return linfusion


def _linfusion_folder(inputs: ComponentInputs) -> Path:
    if inputs.linfusion is None:
        raise WeightsError(
            f"preset {inputs.preset} names no LinFusion weights (model.linfusion). Try ", option("attention", "softmax")
        )
    return linfusion_folder(inputs.linfusion.open())
