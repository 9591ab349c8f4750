"""The source of the UNet alone: the model's own, or another one that is used in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.loading.conversions import to_diffusers
from linfusion_cli.engine.loading.model_files import FileSource, FolderSource, Source
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file_layouts import named
from linfusion_cli.weights.unet_settings import with_settings_of
from linfusion_cli.weights.weight_file import WeightFile


@dataclass(frozen=True, slots=True)
class UNetFile:
    """One file with a UNet, named as single_file_layouts.py knows it; its config is that of the model `base`."""

    header: Header
    base: Source

    @property
    def path(self) -> Path:
        return self.header.path

    def config(self, part: str) -> dict[str, Any]:
        """The base's; what the file's own tensors tell comes first."""
        config = self.base.config(part)
        return with_settings_of(self.header.tensors, config) if part == "unet" else config

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """The UNet's tensors under the names of diffusers."""
        way = named(self.header.tensors, "unet")
        if way is None:
            raise WeightsError(f"{self.path}: holds no UNet", parameter="unet")
        given = read_tensors(self.header, dtype, lambda name: name.startswith(way.prefix), borrow=True)
        return to_diffusers(given, way, self.config(part), self.path)

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
