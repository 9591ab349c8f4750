"""LoRA (arXiv 2106.09685) and its kin on the UNet and the text encoders, mounted and taken off exactly."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linfusion_cli.engine.adapters.lora_layers import layer_updates
from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.engine.attention.linfusion import replace_module
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
from linfusion_cli.errors import UsageError
from linfusion_cli.planning.render_plan import LoraInput
from linfusion_cli.weights.lora_fit import family_of_widths, other_model
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET
from linfusion_cli.weights.lora_names import check_lora
from linfusion_cli.weights.weight_file import WeightFile

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")  # of a text encoder


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA, read and checked; `mount` and `unmount` are exact inverses. `number`: its position among the LoRAs.

    weight acts on the UNet, text_weight on the text encoders. Plain LoRA goes beside linear layers, through peft; every
    other kind, and every convolution, goes into a copy of the layer's weight. So does all of a LoRA of some stages
    alone, which comes and goes with them.
    stages: "base", "upscale", or "" for all
    """

    source: Path
    weight: float
    text_weight: float
    stages: str
    updates: tuple[Update, ...]
    pipeline_class: Any
    _replaced: list[tuple[str, nn.Module]] = field(default_factory=list)  # those that were there before, while mounted

    @staticmethod
    def load(file: WeightFile, weight: float, text_weight: float, pipeline: Any, stages: str = "") -> Lora:
        """Reads and checks a LoRA that acts on the UNet with `weight` and on the text encoders with `text_weight`.

        Both are from -8 to 8. Raises WeightsError if the file holds no LoRA, one of another family than the pipeline's,
        or a tensor of no known meaning.
        """
        file.refuse_changed()
        header = file.header
        path = header.path
        check_lora(header, 0)
        models = {part: model for part in (UNET, *TEXTS) if (model := getattr(pipeline, part, None)) is not None}
        updates = tuple(layer_updates(read_tensors(header, None), header.metadata, models, path))
        lora = Lora(path, weight, text_weight, stages, updates, type(pipeline))
        if any(map(lora._through_peft, updates)) and importlib.util.find_spec("peft") is None:
            raise UsageError(
                'needs the package peft. Install it with: pip install "linfusion-cli[lora]"', parameter="loras"
            )
        lora._check(models)
        return lora

    def _check(self, models: Mapping[str, Any]) -> None:
        """Names the first layer that is of another size."""
        for update in self.updates:
            layer = base_layer(models[update.part].get_submodule(update.module))
            if misfit := update.misfit(layer):
                raise other_model(self.source, f"{update.part}.{update.module} {misfit}", self._family())

    def _family(self) -> str:
        crosses = (each for each in self.updates if each.plain and each.module.endswith("attn2.to_k"))
        return family_of_widths([int(each.parts["down"].shape[1]) for each in crosses])

    def mount(self, unet: Any, number: int) -> None:
        """Puts the LoRA on the UNet. Convolutions get it into their weights: bands read these themselves."""
        if self.weight == 0:
            return
        name, beside = adapter_name(number), self._beside(UNET, unet)
        if beside:
            with several_loras():
                self.pipeline_class.load_lora_into_unet(_state(beside), None, unet, adapter_name=name)
            activate_loras(unet, name, {each.module: _scaling(each, self.weight) for each in beside})
        for path, layer in list(unet.named_modules()):
            if name in getattr(layer, "scaling", {}) and isinstance(base_layer(layer), nn.Conv2d):
                self._replaced.append((path, base_layer(layer)))
                replace_module(unet, path, _merged(layer))
        self._replaced.extend(self._merge(UNET, unet, self.weight))

    def unmount(self, unet: Any, number: int) -> None:
        """Leaves the very modules that were there before `mount`."""
        name = adapter_name(number)
        for path, module in reversed(self._replaced):
            replace_module(unet, path, module)
        self._replaced.clear()
        if has_lora(unet, name):
            remove_lora(unet, name)

    def mount_texts(self, pipeline: Any, number: int) -> None:
        """The same for the text encoders, which keep it as long as they live."""
        for part in TEXTS:
            encoder = getattr(pipeline, part, None)
            if encoder is None or self.text_weight == 0:
                continue
            name, beside = adapter_name(number), self._beside(part, encoder)
            attends = any(update.module.endswith(ATTENTION) for update in beside)
            if attends:
                with several_loras():
                    self.pipeline_class.load_lora_into_text_encoder(
                        _state(beside), None, encoder, prefix=part, adapter_name=name
                    )
                activate_loras(encoder, name, {each.module: _scaling(each, self.text_weight) for each in beside})
            self._merge(part, encoder, self.text_weight, whole=not attends)  # diffusers loads none without attention

    def _through_peft(self, update: Update) -> bool:
        return not self.stages and update.plain and update.module.rpartition(".")[2] != "text_projection"

    def _beside(self, part: str, model: Any) -> list[Update]:
        """The updates that peft puts beside the model's layers."""
        return [_fitted(each, model) for each in self.updates if each.part == part and self._through_peft(each)]

    def _merge(self, part: str, model: Any, weight: float, *, whole: bool = False) -> list[tuple[str, nn.Module]]:
        """Merges the other updates (whole: all) into copies of layers; returns names and layers that were there."""
        replaced: list[tuple[str, nn.Module]] = []
        for update in self.updates:
            if update.part == part and (whole or not self._through_peft(update)):
                module = model.get_submodule(update.module)
                inner = hasattr(module, "get_base_layer")
                path, layer = update.module + (".base_layer" if inner else ""), base_layer(module)
                replaced.append((path, layer))
                replace_module(model, path, with_parameters(layer, **update.merged(layer, weight)))
        return replaced


def load_loras(given: Iterable[LoraInput], pipeline: Any) -> tuple[Lora, ...]:
    """LoRAs for a pipeline's UNet, in their order; its text encoders have their part of them. Raises as Lora.load."""
    loras = tuple(Lora.load(one.file, one.scale, one.text_scale, pipeline, one.stages) for one in given)
    for number, lora in enumerate(loras):
        lora.mount_texts(pipeline, number)
    return loras


def _fitted(update: Update, model: Any) -> Update:
    """Factors of 1x1 convolutions for a linear layer, and the reverse: families differ in their projections."""
    dims = base_layer(model.get_submodule(update.module)).weight.ndim
    parts = {
        name: value if value.ndim == dims else value.reshape(*value.shape[:2], *[1] * (dims - 2))
        for name, value in update.parts.items()
    }
    return replace(update, parts=parts)


def _state(updates: list[Update]) -> dict[str, Tensor]:
    """The factors under the names that diffusers loads."""
    state: dict[str, Tensor] = {}
    for each in updates:
        name = f"{each.part}.{each.module}"
        state |= {f"{name}.lora_A.weight": each.parts["down"], f"{name}.lora_B.weight": each.parts["up"]}
    return state


def _scaling(update: Update, weight: float) -> float:
    """As peft computes it, to the last bit."""
    alpha = update.rank if update.alpha is None else update.alpha
    return weight * alpha / (math.sqrt(update.rank) if update.root_rank else update.rank)


def adapter_name(number: int) -> str:
    """The name under which peft knows the LoRA at a position on the command line."""
    return f"lora{number}"


def _merged(layer: Any) -> nn.Module:
    """A convolution like the one inside a LoRA layer, with the LoRA added to its weight."""
    base = base_layer(layer)
    weight = lora_delta(layer, base.weight)
    return with_parameters(base, weight=weight.contiguous(memory_format=torch.channels_last))
