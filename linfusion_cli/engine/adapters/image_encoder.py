"""Loads the image encoder of an IP-Adapter (CLIP, arXiv 2103.00020) from a folder or from one file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from linfusion_cli.engine.loading.from_config import guarded
from linfusion_cli.engine.loading.safetensors_loader import build, read_tensors
from linfusion_cli.weights.config_rules import deciding
from linfusion_cli.weights.image_encoder import encoder_config, transformers_names
from linfusion_cli.weights.weight_file import WeightFile, headers_in


def load_image_encoder(file: WeightFile, dtype: torch.dtype) -> Any:
    """A CLIPVisionModelWithProjection in eval mode. Raises WeightsError naming what is missing or of another shape."""
    location = file.open()
    headers = headers_in(file.headers, location) if location.is_dir() else file.headers
    settings = deciding("image_encoder", encoder_config(location, headers))
    tensors: dict[str, Tensor] = {}
    for header in headers:
        for name, tensor in read_tensors(header, dtype).items():
            tensors |= _named(name, tensor)
    kind = CLIPVisionModelWithProjection
    make = guarded(lambda: kind(CLIPVisionConfig.from_dict(settings)), kind.__name__, str(location))
    return build(make, [tensors], str(location))


def _named(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensor under the names of transformers: fused ones in their parts, OpenCLIP's projection transposed."""
    names = transformers_names(name)
    if not names:
        return {}
    if name == "visual.proj":
        tensor = tensor.T.contiguous()
    parts = tensor.chunk(len(names)) if len(names) > 1 else (tensor,)
    return dict(zip(names, parts, strict=True))
