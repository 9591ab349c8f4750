"""Every private symbol and awkward touch of diffusers, peft, transformers and accelerate, in one place.

tests/engine/test_compat_diffusers.py holds a contract for each symbol here, so that a new release that changes one
fails a test with the symbol's name. Nothing else in the package may touch what these libraries keep private. Written
against diffusers 0.42, peft 0.21, transformers 5.23 and accelerate 1.15.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.attention_processor import IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

__all__ = ["UNet2DConditionOutput"]  # the modules of output classes move between releases; the functions below are ours

# Building and filling models


def hollow(make: Callable[[], nn.Module]) -> Any:
    """A model made without memory for its parameters: layers, names and shapes are there, to be filled."""
    with init_empty_weights():
        return make()


def rename_old_keys(model: Any, tensors: dict[str, Tensor]) -> None:
    """Renames, in place, what diffusers called otherwise before 2023: the autoencoder's attention."""
    if hasattr(model, "_fix_state_dict_keys_on_load"):
        model._fix_state_dict_keys_on_load(tensors)


# Single files in the original (ldm) layout, converted to diffusers' names


def unet_tensors(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """`model.diffusion_model.*` as UNet2DConditionModel names it."""
    found = _present(convert_ldm_unet_checkpoint(tensors, config))
    guidance = tensors.get("model.diffusion_model.time_embed.cond_proj.weight")  # which the conversion leaves out
    return found if guidance is None else {**found, "time_embedding.cond_proj.weight": guidance}


def vae_tensors(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """`first_stage_model.*` (or without the prefix) as AutoencoderKL names it."""
    return _present(convert_ldm_vae_checkpoint(tensors, config))


def clip_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first text encoder of 1.x and SD-XL as CLIPTextModel names it."""
    return dict(convert_ldm_clip_checkpoint(tensors))


def open_clip_tensors(tensors: dict[str, Tensor], width: int, prefix: str) -> dict[str, Tensor]:
    """OpenCLIP's text encoder, `width` channels wide, as CLIPTextModelWithProjection names it."""
    return dict(convert_open_clip_checkpoint(_Shaped(_Config(width)), tensors, prefix=prefix))


def controlnet_tensors(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """`control_model.*` as ControlNetModel names it."""
    found = _present(convert_controlnet_checkpoint(tensors, config))
    for number in (1, 2):  # of SD-XL: the image's size, which the conversion leaves out
        for end in ("weight", "bias"):
            name = f"label_emb.0.{2 * number - 2}.{end}"
            size = tensors.get(name, tensors.get(f"control_model.{name}"))
            found |= {} if size is None else {f"add_embedding.linear_{number}.{end}": size}
    return found


def _present(converted: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Without the names that a conversion expects and the file lacks: it gives None for them."""
    return {name: tensor for name, tensor in converted.items() if tensor is not None}


@dataclass(frozen=True, slots=True)
class _Config:
    hidden_size: int


@dataclass(frozen=True, slots=True)
class _Shaped:
    """What the conversion of OpenCLIP's names asks of a model: its width."""

    config: _Config


# Calling parts of a model by themselves

TOLD_GUIDANCE = "timestep_cond"  # in added_cond_kwargs, beside what diffusers has there


def unet_call(
    unet: Any, sample: Tensor, timestep: Tensor, text: Tensor, added: dict[str, Any] | None, **options: Any
) -> Tensor:
    """The prediction of a UNet for a sample; `added` may hold the guidance embedding of a consistency model."""
    more = dict(added or {})
    told = more.pop(TOLD_GUIDANCE, None)
    prediction: Tensor = unet(
        sample,
        timestep,
        encoder_hidden_states=text,
        timestep_cond=told,
        added_cond_kwargs=more or None,
        return_dict=False,
        **options,
    )[0]
    return prediction


def time_and_added_embedding(
    model: Any, sample: Tensor, timestep: Tensor, text: Tensor, added: dict[str, Any]
) -> Tensor:
    """The time embedding (batch, channels) of a UNet or ControlNet; a ControlNet has no method of its own for it."""
    kind = UNet2DConditionModel
    embedding: Tensor = model.time_embedding(
        kind.get_time_embed(model, sample=sample, timestep=timestep), added.get(TOLD_GUIDANCE)
    )
    more = kind.get_aug_embed(model, emb=embedding, encoder_hidden_states=text, added_cond_kwargs=added)
    return embedding if more is None else embedding + more


@contextmanager
def condition_embedded(controlnet: Any) -> Iterator[None]:
    """Inside, a ControlNet takes a condition that is embedded already: once per stage instead of once per step."""
    embedding = controlnet.controlnet_cond_embedding
    controlnet.controlnet_cond_embedding = nn.Identity()
    try:
        yield
    finally:
        controlnet.controlnet_cond_embedding = embedding


@contextmanager
def final_norm_found(encoder: Any) -> Iterator[None]:
    """Clip-skip of diffusers looks for text_model.final_layer_norm, which transformers 5 calls final_layer_norm."""
    if hasattr(encoder, "text_model"):
        yield
        return
    encoder.__dict__["text_model"] = SimpleNamespace(final_layer_norm=encoder.final_layer_norm)
    try:
        yield
    finally:
        del encoder.__dict__["text_model"]


# IP-Adapter


def mount_ip_adapter(unet: Any, state: Mapping[str, Mapping[str, Tensor]], scale: float) -> None:
    """Puts the cross-attentions for images beside those of the text.

    Raises KeyError, RuntimeError or ValueError for an adapter that diffusers does not know.
    """
    unet._load_ip_adapter_weights([state])
    unet.requires_grad_(False)
    for processor in unet.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor | IPAdapterAttnProcessor2_0):
            processor.scale = [scale]


def unmount_ip_adapter(unet: Any, processors: Mapping[str, Any], dim_type: Any) -> None:
    """The UNet with the attention processors and the `encoder_hid_dim_type` that it had before the adapter."""
    present = unet.attn_processors
    unet.set_attn_processor({name: processor for name, processor in processors.items() if name in present})
    del unet.encoder_hid_proj  # a module now; it was a plain None
    unet.encoder_hid_proj = None
    unet.config.encoder_hid_dim_type = dim_type


# LoRA through peft, which is an optional package: imported by those who have it


@contextmanager
def several_loras() -> Iterator[None]:
    """peft warns of a second LoRA on one model, which is what was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        yield


def lora_layers(model: nn.Module) -> list[Any]:
    """The layers of peft in a model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def base_layer(layer: Any) -> Any:
    """The model's own layer, inside peft's if there is one."""
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def activate_loras(model: nn.Module, name: str, scalings: Mapping[str, float]) -> None:
    """Every mounted LoRA acts; the named one with the factor given for each layer. Parameters need no gradients."""
    for path, layer in model.named_modules():
        if path in scalings and name in getattr(layer, "scaling", {}):
            layer.scaling[name] = scalings[path]
    for layer in lora_layers(model):
        layer.set_adapter(list(layer.scaling))
        layer.requires_grad_(False)
        layer.eval()


def has_lora(model: Any, name: str) -> bool:
    """Whether peft knows a LoRA of that name on the model."""
    return name in getattr(model, "peft_config", {})


def remove_lora(model: Any, name: str) -> None:
    """Takes one LoRA away again; after the last one the model's own layers are back in their places.

    `delete_adapters` of diffusers leaves peft's empty layers around the model's own: no exact inverse.
    """
    layers = {id(layer) for layer in lora_layers(model)}
    for parent in list(model.modules()):
        for attribute, child in list(parent.named_children()):
            if id(child) in layers:
                layer: Any = child
                layer.delete_adapter(name)
                if not list(layer.scaling):
                    setattr(parent, attribute, layer.get_base_layer())
    model.peft_config.pop(name, None)
    if not model.peft_config:
        del model.peft_config
        model._hf_peft_config_loaded = False


def lora_delta(layer: Any, weight: Tensor) -> Tensor:
    """The weight of a layer of peft with all its active LoRAs added."""
    for name in layer.active_adapters:
        weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight


def with_parameters(layer: nn.Module, **tensors: Tensor) -> nn.Module:
    """A layer like the one given, which keeps its own, with other tensors as the parameters named."""
    twin = copy.copy(layer)
    twin._parameters = dict(layer._parameters)
    for name, tensor in tensors.items():
        setattr(twin, name, nn.Parameter(tensor, requires_grad=False))
    return twin


@contextmanager
def quiet_arrays() -> Iterator[None]:
    """Some schedulers of diffusers give tensors to numpy 2, which warns of an argument that torch lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array_wrap__ must accept", category=DeprecationWarning)
        yield
