"""CLIP score: how well images go with their prompts, by a CLIP model that the user has (arXiv 2104.08718)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import read_json

PREPROCESSOR = "preprocessor_config.json"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # those of OpenAI's models


class ClipScorer:
    """Scores images with a CLIP model of both towers."""

    def __init__(self, model: Any, tokenizer: Any, mean: Tensor, deviation: Tensor) -> None:
        self._model, self._tokenizer, self._mean, self._deviation = model, tokenizer, mean, deviation
        self._side_px = int(model.config.vision_config.image_size)

    @staticmethod
    def load(folder: Path, device: str) -> ClipScorer:
        """Reads a folder in the layout of transformers (openai/clip-vit-large-patch14): safetensors, nothing fetched.

        Raises WeightsError if it holds no such model.
        """
        from transformers import CLIPModel, CLIPTokenizer

        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            path = folder / PREPROCESSOR
            about = read_json(path) if path.exists() else {}
            mean, deviation = (
                torch.tensor(about.get(name, usual), device=device).view(3, 1, 1)
                for name, usual in (("image_mean", MEAN), ("image_std", DEVIATION))
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).split("\n")[0][:200]
            raise WeightsError(f"{folder}: no CLIP model of text and images ({reason})", parameter="clip") from error
        return ClipScorer(model.to(device).eval(), tokenizer, mean, deviation)

    @torch.inference_mode()
    def score(self, image: Tensor, prompt: str) -> float:
        """100 max(cos(image, prompt), 0) of an image, uint8 (3, height, width), and its prompt.

        The image's shorter side is scaled to the model's, and its middle is seen; a prompt is cut at 77 tokens.
        """
        length = int(self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(prompt, truncation=True, max_length=length, return_tensors="pt").to(self._mean.device)
        found = self._model(pixel_values=self._seen(image), **tokens)
        return 100 * max(float(F.cosine_similarity(found.image_embeds, found.text_embeds)), 0.0)

    def _seen(self, image: Tensor) -> Tensor:
        """What the model sees of an image: (1, 3, side, side), normalised."""
        height, width = image.shape[1:]
        scale = self._side_px / min(height, width)
        size = (max(self._side_px, round(height * scale)), max(self._side_px, round(width * scale)))
        pixels = image[None].to(self._mean.device, torch.float32)
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        top, left = ((side - self._side_px) // 2 for side in size)
        pixels = pixels[:, :, top : top + self._side_px, left : left + self._side_px].round().clamp(0, 255) / 255
        return (pixels - self._mean) / self._deviation
