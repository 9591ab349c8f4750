"""Mounts LinFusion's linear attention on a diffusers UNet, and unmounts it exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from linfusion_cli.engine.attention.linear_attention import LinearAttention
from linfusion_cli.engine.loading.safetensors_loader import build, check_tensors, read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.files import replacing, write_atomically
from linfusion_cli.json_files import read_json
from linfusion_cli.weights.safetensors_header import read_header

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
SELF_ATTENTION = ".attn1"
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out")


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """The name and shape of one linear attention: an entry of `modules_list` in the official config."""

    module_name: str
    dim: int
    heads: int
    mid_dim: int | None


def self_attentions(unet: nn.Module) -> dict[str, nn.Module]:
    """The self-attentions of a UNet by module name, in the order of the official files."""
    return {name: module for name, module in unet.named_modules() if name.endswith(SELF_ATTENTION)}


class LinFusion:
    """Linear attentions for every self-attention of one UNet; `unmount` undoes `mount` exactly.

    keep_projections: f_q and f_k are LinFusion's; the UNet's own layers project queries, keys, values and output.
    LinFusion's files hold the projections of the plain model, which would undo what a fine-tune learned there.
    """

    def __init__(
        self,
        specs: tuple[AttentionSpec, ...],
        attentions: nn.ModuleList | None = None,
        *,
        keep_projections: bool = False,
    ) -> None:
        self.specs = specs
        self.attentions = attentions or _attentions(specs)
        self.keep_projections = keep_projections
        self._originals: dict[str, nn.Module] = {}
        self._own: list[dict[str, nn.Module]] = []

    @staticmethod
    def like(unet: nn.Module, mid_dim_scale: int = 1) -> LinFusion:
        """Linear attentions shaped like the UNet's own, with projections copied from it and f at zero output.

        `mid_dim_scale` divides the width of f: 1 in the official SD-v1.5 and v2.1 files, 16 in SD-XL's.
        """
        originals = self_attentions(unet)
        specs = tuple(_spec_of(name, module, mid_dim_scale) for name, module in originals.items())
        linfusion = LinFusion(specs)
        for attention, original in zip(linfusion.attentions, originals.values(), strict=True):
            attention.load_state_dict(original.state_dict(), strict=False)
            for name, parameter in attention.named_parameters():
                if name.startswith(("to_q_.3", "to_k_.3")):
                    nn.init.zeros_(parameter)
        return linfusion

    @staticmethod
    def load(folder: Path, dtype: torch.dtype = torch.float32, *, keep_projections: bool = False) -> LinFusion:
        """Reads an official-layout folder (config.json and one safetensors file).

        Raises WeightsError if a file is missing, damaged, or holds other tensors than its config says.
        """
        specs, path = _read_specs(folder / CONFIG), folder / WEIGHTS
        attentions = build(lambda: _attentions(specs), [read_tensors(read_header(path), dtype)], str(path))
        return LinFusion(specs, attentions, keep_projections=keep_projections)

    def narrowed(self, model: nn.Module) -> LinFusion:
        """Linear attentions for a model with some of the same self-attentions (a ControlNet).

        They share f with these; the model keeps its projections.
        """
        names = self_attentions(model)
        chosen = [
            (spec, attention)
            for spec, attention in zip(self.specs, self.attentions, strict=True)
            if spec.module_name in names
        ]
        specs = tuple(spec for spec, _ in chosen)
        with torch.device("meta"):
            attentions = _attentions(specs)
        for own, (_, theirs) in zip(attentions, chosen, strict=True):
            own.to_q_, own.to_k_, own.kernels = theirs.to_q_, theirs.to_k_, theirs.kernels
        return LinFusion(specs, attentions, keep_projections=True)

    def save(self, folder: Path) -> None:
        """Writes the official layout."""
        folder.mkdir(parents=True, exist_ok=True)
        modules = [
            {"module_name": s.module_name, "dim_n": s.dim, "heads": s.heads, "projection_mid_dim": s.mid_dim}
            for s in self.specs
        ]
        config = {"_class_name": "LinFusion", "_diffusers_version": "0.30.0", "modules_list": modules}
        weights = {name: value.contiguous() for name, value in self.attentions.state_dict().items()}
        with replacing(folder / WEIGHTS) as part:
            save_file(weights, part, {"format": "pt"})
        write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")

    def load_state_dict(self, weights: dict[str, Tensor], source: str) -> None:
        """Copies weights with the official names.

        Raises WeightsError naming the first that is missing, extra or of another shape.
        """
        own = {name: tuple(value.shape) for name, value in self.attentions.state_dict().items()}
        check_tensors(own, weights, source, extra_allowed=False)
        self.attentions.load_state_dict(weights)

    def check(self, unet: nn.Module) -> None:
        """Raises WeightsError naming the first self-attention of the UNet that these weights do not fit."""
        originals = self_attentions(unet)
        specs = {spec.module_name: spec for spec in self.specs}
        for name in [*originals, *specs]:
            if name not in specs or name not in originals:
                owner = "UNet" if name in originals else "file"
                raise WeightsError(f"LinFusion weights of another model: the {owner} alone has {name}")
            own, file = _spec_of(name, originals[name], 1), specs[name]
            if (own.dim, own.heads) != (file.dim, file.heads):
                raise WeightsError(
                    f"LinFusion weights of another model: {name} has {file.dim} channels in {file.heads} heads, "
                    f"the UNet {own.dim} in {own.heads}"
                )

    def mount(self, unet: nn.Module) -> None:
        """Replaces the UNet's self-attentions by the linear attentions, on their device and in their dtype.

        Mount before LoRA: a LoRA that is already there would stay on the modules that are taken out.
        Raises WeightsError if the weights do not fit, RuntimeError if already mounted.
        """
        if self._originals:
            raise RuntimeError("already mounted; unmount first")
        self.check(unet)
        self._originals = self_attentions(unet)
        for spec, attention in zip(self.specs, self.attentions, strict=True):
            original = self._originals[spec.module_name]
            if self.keep_projections:
                self._own.append(_exchange(attention, {name: getattr(original, name) for name in PROJECTIONS}))
            attention.to(next(original.parameters()))
            attention.train(unet.training)
            replace_module(unet, spec.module_name, attention)

    def unmount(self, unet: nn.Module) -> None:
        """Puts back the modules that `mount` took out."""
        for name, module in self._originals.items():
            replace_module(unet, name, module)
        for attention, own in zip(self.attentions, self._own, strict=self.keep_projections):
            _exchange(attention, own)
        self._originals, self._own = {}, []


def _attentions(specs: tuple[AttentionSpec, ...]) -> nn.ModuleList:
    return nn.ModuleList(LinearAttention(spec.dim, spec.heads, spec.mid_dim) for spec in specs)


def _exchange(attention: nn.Module, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Puts the modules into an attention by name, and returns those that were there."""
    before = {name: getattr(attention, name) for name in modules}
    for name, module in modules.items():
        setattr(attention, name, module)
    return before


def _spec_of(name: str, attention: nn.Module, mid_dim_scale: int) -> AttentionSpec:
    dim = int(attention.to_q.weight.shape[0])  # type: ignore[union-attr,index]
    mid_dim = None if mid_dim_scale == 1 else dim // mid_dim_scale
    return AttentionSpec(name, dim, int(attention.heads), mid_dim)  # type: ignore[arg-type]


def _read_specs(path: Path) -> tuple[AttentionSpec, ...]:
    try:
        modules = read_json(path)["modules_list"]
        return tuple(
            AttentionSpec(m["module_name"], m["dim_n"], m["heads"], m.get("projection_mid_dim")) for m in modules
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a LinFusion config ({error})") from error


def replace_module(unet: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of the one of that dotted name."""
    parent, _, attribute = name.rpartition(".")
    setattr(unet.get_submodule(parent), attribute, module)
