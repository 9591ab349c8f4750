"""T2I-Adapter (arXiv 2302.08453): features of a control image, once per stage, added inside the UNet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import T2IAdapter
from torch import Tensor

from linfusion_cli.engine.loading.from_config import maker
from linfusion_cli.engine.loading.safetensors_loader import build, read_tensors
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.residuals import Residuals, SampleResiduals
from linfusion_cli.engine.streaming.row_source import Extended, Field, Mapped, Parked
from linfusion_cli.geometry import Band, Size, bands
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.t2i_adapter import adapter_config, check_t2i_adapter, diffusers_names
from linfusion_cli.weights.weight_file import WeightFile, headers_in

GREY = (0.299, 0.587, 0.114)  # of an image for an adapter that reads one channel (ITU-R 601, as Pillow's "L")


@dataclass(frozen=True, slots=True)
class T2INet:
    """One T2I-Adapter. It has no attention."""

    model: Any

    @staticmethod
    def load(file: WeightFile, unet: Any, dtype: torch.dtype) -> T2INet:
        """Reads a folder in diffusers layout or one file. Raises WeightsError if it is for another UNet."""
        path = file.open()
        headers = headers_in(file.headers, path) if path.is_dir() else file.headers
        check_t2i_adapter(path, headers, unet.config)
        make = maker(T2IAdapter, adapter_config(path, headers), str(path))
        tensors = [_read(header, dtype) for header in headers]
        return T2INet(build(make, tensors, str(path)).requires_grad_(False))

    def attend(self, attention: str) -> Any:
        """The network, whatever the attention."""
        return self.model


def _read(header: Header, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a file under the names of diffusers."""
    names = diffusers_names(header.tensors)
    return {names[name]: tensor for name, tensor in read_tensors(header, dtype, borrow=True).items()}


@dataclass(frozen=True, slots=True)
class T2IFeatures:
    """A T2I-Adapter at work. `band_rows`: a band's height in rows of latents.

    A band is computed with so many rows around it that its features do not depend on where it was cut.
    """

    adapter: Any
    band_rows: int
    store: ActivationStore
    weights: Weights

    @torch.inference_mode()
    def condition(self, image: Field) -> tuple[Field, ...]:
        """The features of a control image (3 channels in [0, 1], of the canvas in pixels), one for each level."""
        inner, factor = self.adapter.adapter, int(self.adapter.adapter.unshuffle.downscale_factor)
        unit, around = self._unit_and_reach()
        sides = (-(-side // factor) * factor for side in (image.width, image.height))
        image = Extended(image, Size(*sides))  # a feature's size is that of the UNet's level, rounded up as there
        height, parked = image.height // factor, list[Parked]()
        step = max(-(-self.band_rows * 8 // factor) // unit, 1) * unit
        with self.weights.lent(self.adapter):
            for band in bands(height, step):
                wide = Band(max(band.top - around, 0), min(band.bottom + around, height))
                rows = self._pixels(image, Band(wide.top * factor, wide.bottom * factor))
                for i, (feature, shrink) in enumerate(zip(inner(rows), self._shrinks(), strict=True)):
                    if i == len(parked):
                        size = (-(-height // shrink), feature.shape[3], feature.shape[1])
                        parked.append(Parked(self.store.slab(size, feature.dtype), *size, self.store.device))
                    own = Band(band.top // shrink, -(-band.bottom // shrink))
                    start = own.top - wide.top // shrink
                    parked[i].write(own, feature[:, :, start : start + own.height])
        return tuple(parked)

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: tuple[Field, ...],
        scale: float,
        dilation: int = 1,
    ) -> Residuals:
        """What to add inside the UNet, times `scale`: the same for every sample, timestep and dilation."""
        inside = tuple(Mapped(feature, lambda rows: rows * scale) for feature in condition)
        return Residuals((SampleResiduals(inside=inside),) * len(sample))

    def _pixels(self, image: Field, band: Band) -> Tensor:
        """Rows of the image as the adapter reads them."""
        rows = image.rows(band).contiguous()
        if self.adapter.config.in_channels == 1:
            rows = (rows * rows.new_tensor(GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        return rows.to(self.store.device, next(self.adapter.parameters()).dtype)

    def _unit_and_reach(self) -> tuple[int, int]:
        """Of the first level's rows: a number that every level halves evenly, and how far a row's features reach."""
        unit = reach = 1
        for halved, convolutions in self._levels():
            unit *= 2 if halved else 1
            reach += convolutions * unit
        return unit, -(-reach // unit) * unit

    def _shrinks(self) -> Iterator[int]:
        """How many rows of the first level one row of each level stands for."""
        shrink = 1
        for halved, _ in self._levels():
            shrink *= 2 if halved else 1
            yield shrink

    def _levels(self) -> Iterator[tuple[bool, int]]:
        """Of each level: whether it halves the rows, and how many 3x3 convolutions it has."""
        for block in self.adapter.adapter.body:
            yield (
                block.downsample is not None,
                sum(module.kernel_size[0] > 1 for module in block.modules() if isinstance(module, torch.nn.Conv2d)),
            )
