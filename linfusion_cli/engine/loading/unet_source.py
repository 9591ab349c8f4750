"""The source of the UNet alone: the model's own, or another one that is used in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.loading.model_files import UNET, FileSource, FolderSource, Source, converted_unet
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.weights.model_family import kind_of
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.unet_file import guidance_embedding_dim
from linfusion_cli.weights.weight_file import WeightFile


@dataclass(frozen=True, slots=True)
class UNetFile:
    """One file with a UNet, in the names of diffusers or the original ones; its config is that of the model `base`."""

    header: Header
    base: Source

    @property
    def path(self) -> Path:
        return self.header.path

    def config(self, part: str) -> dict[str, Any]:
        """The base's; what the file's own tensors tell comes first."""
        config = self.base.config(part)
        dim = guidance_embedding_dim(self.header.tensors)
        return config | {"time_cond_proj_dim": dim or None} if part == "unet" else config

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """The UNet's tensors under the names of diffusers."""
        if any(name.startswith("conv_in.") for name in self.header.tensors):
            return read_tensors(self.header, dtype, borrow=True)
        prefix = UNET if kind_of(self.header.tensors) == "checkpoint" else ""
        found = read_tensors(self.header, dtype, lambda name: name.startswith(prefix), borrow=True)
        given = {UNET + name.removeprefix(prefix): tensor for name, tensor in found.items()}
        return converted_unet(given, self.config(part), self.path)

    def tokenizer(self, part: str) -> Any:
        return self.base.tokenizer(part)


def unet_source(file: WeightFile, base: Source) -> Source:
    """A UNet in the folder of a model or alone, or in a file, for the model `base`.

    Raises WeightsError if it is not on this machine, or changed since the plan.
    """
    path = file.open()
    if path.is_dir():
        return FolderSource(path, file.headers, lone=not (path / "unet").is_dir())
    return UNetFile(file.header, base)


def prediction_of(source: Source) -> str:
    """What a UNet of one file says that it predicts, in its metadata; "" if it does not say."""
    if not isinstance(source, UNetFile):
        return ""
    said = FileSource(source.path, source.header, source.path).prediction()
    return str(said.get("prediction_type", ""))
