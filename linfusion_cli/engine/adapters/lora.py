"""LoRA (arXiv 2106.09685) on the UNet and the text encoders, in kohya's and diffusers' layouts, through diffusers and peft."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linfusion_cli.engine.compat_diffusers import (
    activate_loras,
    base_layer,
    has_lora,
    lora_delta,
    remove_lora,
    several_loras,
    with_parameters,
)
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.weights.adapter_files import lora_file
from linfusion_cli.weights.locate import find_first
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM, check_kind
from linfusion_cli.weights.safetensors_header import read_header

UNET, TEXTS = "unet", ("text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA, read and checked; `mount` and `unmount` are exact inverses. `number` is its place on the command line."""

    source: Path
    weight: float
    tensors: Mapping[str, Tensor]
    alphas: Mapping[str, float] | None
    pipeline_class: Any
    _convolutions: dict[str, nn.Module] = field(default_factory=dict)  # those that were there before, while mounted

    @staticmethod
    def load(location: str, weight: float, pipeline: Any) -> Lora:
        """Reads and checks a LoRA that acts with `weight`, -8 to 8.

        Raises WeightsError if the file holds no LoRA or one of another family than the pipeline's.
        """
        path = lora_file(find_first((location,), "", "--lora"))
        check_kind(read_header(path).tensors, "lora", path, "--lora")
        if importlib.util.find_spec("peft") is None:
            raise UsageError('--lora needs the package peft. Install it with: pip install "linfusion-cli[lora]"')
        try:
            converted = pipeline.lora_state_dict(read_tensors(path, None), unet_config=pipeline.unet.config)
        except (ValueError, KeyError) as error:
            raise WeightsError(
                f"--lora {path}: of a layout that is not known ({error}). Known: kohya's and diffusers'"
            ) from error
        tensors, alphas = converted
        lora = Lora(path, weight, tensors, alphas, type(pipeline))
        lora._check(pipeline)
        return lora

    def _check(self, pipeline: Any) -> None:
        """Names the first layer that is not in the model or of another size."""
        found = False
        for part in (UNET, *TEXTS):
            model = getattr(pipeline, part, None)
            for name, tensor in _downs(self.tensors, f"{part}."):
                found = True
                layer = None if model is None else _layer(model, name if part == UNET else _text_name(name))
                width = None if layer is None else _inputs(layer)
                if width != tensor.shape[1]:
                    own = (
                        "is not in the model"
                        if width is None
                        else f"reads {width} channels in the model, {tensor.shape[1]} in the file"
                    )
                    raise WeightsError(f"--lora {self.source}: for another model{self._family()}: {part}.{name} {own}")
        if not found:
            raise WeightsError(f"--lora {self.source}: holds no layer for the UNet or the text encoders")

    def _family(self) -> str:
        width = next(
            (tensor.shape[1] for name, tensor in _downs(self.tensors, "unet.") if name.endswith("attn2.to_k")), 0
        )
        family = OF_TEXT_DIM.get(width, "")
        return f" (of {FAMILY_NAMES.get(family, family)})" if family else ""

    def mount(self, unet: Any, number: int) -> None:
        """Puts the LoRA's layers around the UNet's. Convolutions get it into their weights: bands read these themselves."""
        name = adapter_name(number)
        if self.weight == 0 or not any(key.startswith("unet.") for key in self.tensors):
            return
        with several_loras():
            self.pipeline_class.load_lora_into_unet(
                dict(self.tensors), dict(self.alphas) if self.alphas else None, unet, adapter_name=name
            )
        activate_loras(unet, name, self.weight)
        for place, layer in list(unet.named_modules()):
            if name in getattr(layer, "scaling", {}) and isinstance(base_layer(layer), nn.Conv2d):
                self._convolutions[place] = base_layer(layer)
                _replace(unet, place, _merged(layer))

    def unmount(self, unet: Any, number: int) -> None:
        """Leaves the very modules that were there before `mount`."""
        name = adapter_name(number)
        for place, convolution in self._convolutions.items():
            _replace(unet, place, convolution)
        self._convolutions.clear()
        if has_lora(unet, name):
            remove_lora(unet, name)

    def mount_texts(self, pipeline: Any, number: int) -> None:
        """The same for the text encoders, which keep it as long as they live."""
        for part in TEXTS:
            encoder = getattr(pipeline, part, None)
            if encoder is None or self.weight == 0 or not any(key.startswith(f"{part}.") for key in self.tensors):
                continue
            alphas = dict(self.alphas) if self.alphas else None
            with several_loras():
                self.pipeline_class.load_lora_into_text_encoder(
                    dict(self.tensors), alphas, encoder, prefix=part, adapter_name=adapter_name(number)
                )
            activate_loras(encoder, adapter_name(number), self.weight)


def adapter_name(number: int) -> str:
    """The name under which peft knows the LoRA at a place of the command line."""
    return f"lora{number}"


def _merged(layer: Any) -> nn.Module:
    """A convolution like the one inside a LoRA layer, with the LoRA added to its weight."""
    base = base_layer(layer)
    weight = lora_delta(layer, base.weight)
    return with_parameters(base, weight=weight.contiguous(memory_format=torch.channels_last))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _downs(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Layer names and first factors (rank, inputs[, height, width]) of a part, from either of diffusers' namings."""
    for key, tensor in tensors.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix):
            for ending in (".lora_A.weight", ".lora.down.weight", ".lora_linear_layer.down.weight", ".down.weight"):
                if name.endswith(ending):
                    yield _plain(name.removesuffix(ending)), tensor
                    break


def _plain(name: str) -> str:
    """Names of attention layers before 2024: to_q_lora, processor.to_q_lora."""
    name = name.replace(".processor.", ".")
    return name.removesuffix("_lora").replace("to_out_lora", "to_out.0").replace("to_out.lora", "to_out.0") + (
        ".0" if name.endswith("to_out_lora") else ""
    )


def _text_name(name: str) -> str:
    """A text encoder's layer as transformers calls it."""
    for theirs, ours in (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out.0", "out_proj")):
        if name.endswith(f".self_attn.{theirs}"):
            name = name.removesuffix(theirs) + ours
    return name.removeprefix("text_model.")


def _layer(model: nn.Module, name: str) -> nn.Module | None:
    for candidate in (name, f"text_model.{name}"):
        try:
            return model.get_submodule(candidate)
        except AttributeError:
            continue
    return None


def _inputs(layer: Any) -> int | None:
    weight = getattr(base_layer(layer), "weight", None)
    return int(weight.shape[1]) if isinstance(weight, torch.Tensor) and weight.ndim > 1 else None
