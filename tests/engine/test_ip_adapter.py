"""What CLIP is shown of a picture: what transformers' own processor, in its Pillow version, shows it."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from linfusion_cli.engine.ip_adapter import clip_pixels


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (481, 640), (333, 100), (50, 51), (1023, 769)])
@pytest.mark.parametrize("side", [224, 336])
def test_pictures_are_prepared_as_transformers_does(size: tuple[int, int], side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    wanted = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    ours = clip_pixels(pixels.astype(np.float32) / 255, side)
    assert ours.shape == wanted.shape == (1, 3, side, side)
    assert torch.allclose(ours, wanted, atol=1e-5)
