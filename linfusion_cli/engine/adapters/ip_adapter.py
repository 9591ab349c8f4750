"""IP-Adapter (arXiv 2308.06721): images as prompts, through cross-attentions of their own beside those of the text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.adapters.image_encoder import load_image_encoder
from linfusion_cli.engine.compat_diffusers import mount_ip_adapter, unmount_ip_adapter
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import check_ip_adapter
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM
from linfusion_cli.weights.weight_file import WeightFile

PLAIN = "proj.weight"  # of its projection, the plain adapter has this tensor alone
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(slots=True)
class IPAdapter:
    """One IP-Adapter, read and checked; `mount` and `unmount` are exact inverses."""

    source: Path
    scale: float
    _state: dict[str, dict[str, Tensor]]
    _processors: dict[str, Any] = field(default_factory=dict)  # those that were there before, while mounted
    _dim_type: Any = None

    @staticmethod
    def load(
        file: WeightFile, encoder: WeightFile | None, pipeline: Any, scale: float, dtype: torch.dtype
    ) -> IPAdapter:
        """Reads the adapter, and its image encoder into the pipeline, whose UNet may be hollow.

        Raises WeightsError if one is missing, or of another family than the UNet.
        """
        file.open()
        header = file.header
        check_ip_adapter(header, 0)
        state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in read_tensors(header, dtype).items():
            part, _, rest = name.partition(".")
            state[part][rest] = tensor
        _check(state["ip_adapter"], pipeline.unet, header.path)
        if encoder is None:
            raise WeightsError(f"{header.path}: its image encoder is missing", parameter="ip_adapter")
        pipeline.image_encoder = load_image_encoder(encoder, dtype)
        return IPAdapter(header.path, scale, state)

    def mount(self, unet: Any) -> None:
        """Adds cross-attentions for images beside those of the text. Raises WeightsError for an unknown kind."""
        self._processors, self._dim_type = dict(unet.attn_processors), unet.config.encoder_hid_dim_type
        try:
            mount_ip_adapter(unet, self._state, self.scale)
        except (KeyError, RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{self.source}: of a kind that is not known ({error})", parameter="ip_adapter"
            ) from error

    def unmount(self, unet: Any) -> None:
        """The UNet without the adapter, its processors the very ones that were there."""
        unmount_ip_adapter(unet, self._processors, self._dim_type)

    @torch.inference_mode()
    def embed(self, pipeline: Any, images: Iterable[Any], device: torch.device) -> tuple[Tensor, Tensor]:
        """The embeddings of images (height, width, 3), taken one at a time, and those of no image.

        Each is (1, images, ...), for added["image_embeds"]. The plain adapter reads the encoder's embedding,
        (1, images, dim); every other one reads its last hidden states but one, (1, images, tokens, dim).
        """
        side = pipeline.image_encoder.config.image_size
        pixels = torch.cat([clip_pixels(image, side) for image in images])
        said, nothing = pipeline.encode_image(pixels, device, 1, PLAIN not in self._state["image_proj"])
        return said[None], nothing[None]


def clip_pixels(pixels: Any, side: int) -> Tensor:
    """An image (height, width, 3), uint8, uint16 or in [0, 1], as CLIP reads it: (1, 3, side, side).

    The shorter side is resized to `side`, and the centre is cut out.
    """
    import numpy as np
    from PIL import Image

    unit = pixels / np.float32(65535) if pixels.dtype == np.uint16 else pixels
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else (unit * 255).round().astype(np.uint8))
    width, height = image.size
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    cut = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    values = torch.from_numpy(np.asarray(cut, dtype=np.float32) / 255)
    return ((values - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(2, 0, 1)[None]


def _check(tensors: dict[str, Tensor], unet: Any, path: Path) -> None:
    wanted = unet.config.cross_attention_dim
    crosses = sum(name.endswith("attn2.processor") for name in unet.attn_processors)
    keys = [tensor for name, tensor in tensors.items() if name.endswith("to_k_ip.weight")]
    if not keys or len(keys) != crosses or keys[0].shape[1] != wanted:
        theirs = keys[0].shape[1] if keys else 0
        family = FAMILY_NAMES.get(OF_TEXT_DIM.get(theirs, ""), "another model")
        raise WeightsError(
            f"{path}: for {family}: it has {len(keys)} cross-attentions that read {theirs} channels, "
            f"the UNet {crosses} that read {wanted}",
            parameter="ip_adapter",
        )
