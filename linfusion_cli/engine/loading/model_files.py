"""Where the parts of a model come from: a folder in diffusers layout, or one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor

from linfusion_cli.engine.loading.clip_tokenizer import clip_tokenizer
from linfusion_cli.engine.loading.conversions import to_diffusers
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file import ZTSNR, check_single_file, is_turbo, named_part
from linfusion_cli.weights.tokenizer_files import has_words, require_readable, tokenizer_class
from linfusion_cli.weights.unet_settings import with_settings_of
from linfusion_cli.weights.weight_file import WeightFile, headers_in


class Source(Protocol):
    """Parts by name: unet, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, scheduler."""

    @property
    def path(self) -> Path: ...

    def config(self, part: str) -> dict[str, Any]: ...

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]: ...

    def tokenizer(self, part: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder in diffusers layout.

    headers: of the files that are read; lone: the folder is one component by itself
    """

    path: Path
    headers: tuple[Header, ...]
    lone: bool = False

    def _folder(self, part: str) -> Path:
        return self.path if self.lone else self.path / part

    def config(self, part: str) -> dict[str, Any]:
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        return _read_config(part, self._folder(part) / name)

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for header in headers_in(self.headers, self._folder(part)):
            found |= read_tensors(header, dtype, borrow=True)
        return found

    def tokenizer(self, part: str) -> Any:
        name = tokenizer_class(self.path, part)
        require_readable(self.path / part)
        try:
            return getattr(transformers, name).from_pretrained(self.path / part, local_files_only=True)
        except Exception as error:  # its Rust part raises Exception itself
            why = next(iter(str(error).splitlines()), "")[:150]
            raise WeightsError(f"{self.path / part}: not a complete tokenizer ({why})") from error


@dataclass(frozen=True, slots=True)
class FileSource:
    """One file in a layout of single_file_layouts.py; the configs are from `configs`, a folder in diffusers layout."""

    path: Path
    header: Header
    configs: Path

    @staticmethod
    def of(header: Header, family: str, configs: Path | None = None) -> FileSource:
        """`configs` None: the family's own shapes."""
        return FileSource(header.path, header, configs or family_folder(family))

    def config(self, part: str) -> dict[str, Any]:
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        path = self.configs / part / name
        config = _read_config(part, path)
        if part == "unet":
            config = with_settings_of(self.header.tensors, config)
            check_config(part, config, self.path)
        return config | self.prediction() if part == "scheduler" else config

    @property
    def says_prediction(self) -> bool:
        return "prediction_type" in self.prediction()

    def prediction(self) -> dict[str, Any]:
        """The file's own noise schedule: in a tensor, as ComfyUI names it, or in modelspec.org's metadata."""
        metadata = self.header.metadata
        said = metadata.get("modelspec.prediction_type", "") or metadata.get("modelspec.predict_key", "")
        known: dict[str, Any] = {}
        if "v_pred" in self.header.tensors or said.startswith("v"):
            known["prediction_type"] = "v_prediction"
        elif said.startswith("eps") or (not said and is_turbo(self.header.tensors)):
            known["prediction_type"] = "epsilon"
        if ZTSNR in self.header.tensors:
            known |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return known

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        way = named_part(self.header, part)
        given = read_tensors(self.header, dtype, lambda name: name.startswith(way.prefix), borrow=True)
        return to_diffusers(given, way, self.config(part), self.path)

    def tokenizer(self, part: str) -> Any:
        """The one of the configs; where they hold no words, CLIP's."""
        own = has_words(self.configs / part)
        return FolderSource(self.configs, ()).tokenizer(part) if own else clip_tokenizer(self.configs / part)


def open_source(weights: WeightFile, family: str, configs: Path | None) -> Source:
    """The source of a folder or a file. Raises WeightsError if it is not on this machine, or changed since the plan."""
    path = weights.open()
    if path.is_dir():
        return FolderSource(path, weights.headers)
    source = FileSource.of(weights.header, family, configs)
    check_single_file(source.header)
    return source


def _read_config(part: str, path: Path) -> dict[str, Any]:
    """A part's config, once the rules have passed it."""
    config = read_json_object(path)
    check_config(part, config, path)
    return config
