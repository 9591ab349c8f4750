"""ControlNet (arXiv 2302.05543): what a control image adds inside the UNet, at every step of every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from torch import Tensor

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.compat_diffusers import condition_embedded, controlnet_tensors
from linfusion_cli.engine.loading.from_config import maker
from linfusion_cli.engine.loading.safetensors_loader import build, read_tensors
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.residuals import Residuals, SampleResiduals
from linfusion_cli.engine.streaming.row_source import Field, Spread
from linfusion_cli.geometry import Band, Size
from linfusion_cli.weights.controlnet_file import ORIGINAL, POOLED, controlnet_config
from linfusion_cli.weights.controlnet_union import is_union
from linfusion_cli.weights.weight_file import WeightFile, headers_in

ORDER = "controlnet_conditioning_channel_order"  # of the control image's colours, "rgb" or "bgr"


class ControlNet:
    """One ControlNet. Stage 0 uses its own self-attention; later stages may make it linear, as large sizes need."""

    def __init__(self, model: Any, linfusion: LinFusion | None) -> None:
        self.model = model
        self._linfusion = linfusion
        self._linear = False

    @staticmethod
    def load(file: WeightFile, unet: Any, dtype: torch.dtype, linfusion: LinFusion | None) -> ControlNet:
        """Reads a folder in diffusers layout or one file in either layout. Raises WeightsError for another family's."""
        path = file.open()
        headers = headers_in(file.headers, path) if path.is_dir() else file.headers
        config = controlnet_config(path, file.tensors, unet.config)
        tensors = {name: tensor for one in headers for name, tensor in read_tensors(one, dtype, borrow=True).items()}
        if any(name.startswith(ORIGINAL) for name in tensors):
            tensors = controlnet_tensors(tensors, config)
        kind = ControlNetUnionModel if is_union(file.tensors) else ControlNetModel
        make = maker(kind, config | {ORDER: "rgb"}, str(path))
        model = build(make, [tensors], str(path)).requires_grad_(False)
        if config.get(ORDER) == "bgr":
            first = model.controlnet_cond_embedding.conv_in.weight
            first.data = first.data.flip(1)
        return ControlNet(model, linfusion.narrowed(model) if linfusion else None)

    def attend(self, attention: str) -> Any:
        """The network with "linear" or "softmax" self-attention."""
        linear = attention == "linear"
        if linear != self._linear and self._linfusion is not None:
            (self._linfusion.mount if linear else self._linfusion.unmount)(self.model)
            self._linear = linear
        return self.model


@dataclass(frozen=True, slots=True)
class PlainControlNet:
    """A ControlNet on the whole image at once; the counterpart of PlainUNet."""

    controlnet: Any

    @torch.inference_mode()
    def condition(self, image: Field) -> Tensor:
        """The network's embedding of a control image (3 channels in [0, 1], canvas size in px); one for all steps."""
        whole = image.rows(Band(0, image.height)).contiguous()
        embedded: Tensor = self.controlnet.controlnet_cond_embedding(
            whole.to(self.controlnet.device, self.controlnet.dtype)
        )
        return embedded

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        condition: Tensor,
        scale: float,
        dilation: int = 1,
    ) -> Residuals:
        """What to add inside the UNet: for every skip, and for the middle."""
        with dilated(dilation), condition_embedded(self.controlnet):
            down, middle = self.controlnet(
                sample,
                timestep,
                encoder_hidden_states=text,
                added_cond_kwargs=added,
                return_dict=False,
                **self._control(sample, condition, scale),
            )
        return self._residuals(down, middle, sample)

    def _control(self, sample: Tensor, condition: Tensor, scale: float) -> dict[str, Any]:
        """The network's arguments that say what the image shows, and how strongly it acts."""
        return {"controlnet_cond": condition, "conditioning_scale": scale}

    def _residuals(self, down: Sequence[Tensor], middle: Tensor, sample: Tensor) -> Residuals:
        """Those of a network that averages over the image have one value per channel, for every pixel."""
        if not self.controlnet.config[POOLED]:
            return Residuals.of(down, middle)
        *sizes, last = skip_sizes(self.controlnet, Size(sample.shape[3], sample.shape[2]))
        return Residuals(
            tuple(
                SampleResiduals(
                    tuple(Spread(one[i : i + 1], size) for one, size in zip(down, sizes, strict=True)),
                    (Spread(middle[i : i + 1], last),),
                )
                for i in range(len(sample))
            )
        )


@dataclass(frozen=True, slots=True)
class PlainUnion(PlainControlNet):
    """A ControlNet-union on the whole image at once. mode: what its image shows, see MODES."""

    mode: int

    def _control(self, sample: Tensor, condition: Tensor, scale: float) -> dict[str, Any]:
        return {
            "controlnet_cond": [condition.expand(len(sample), -1, -1, -1)],
            "control_type": control_type(self.controlnet, self.mode, sample),
            "control_type_idx": [self.mode],
            "conditioning_scale": [scale],
        }


def control_type(controlnet: Any, mode: int, sample: Tensor) -> Tensor:
    """(batch, modes): 1 at the mode, else 0; in the number format and on the device of the sample."""
    kinds = sample.new_zeros(len(sample), int(controlnet.config.num_control_type))
    kinds[:, mode] = 1
    return kinds


def skip_sizes(controlnet: Any, size: Size) -> list[Size]:
    """The size in latents of every skip, and of the middle block's output; of latents of `size`."""
    sizes = [size]
    for block in controlnet.down_blocks:
        sizes += [size] * len(block.resnets)
        for _ in block.downsamplers or ():
            size = Size(-(-size.width // 2), -(-size.height // 2))
            sizes.append(size)
    return [*sizes, size]
