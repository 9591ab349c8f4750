"""The score of a tiny CLIP model is the cosine that transformers' own processor and model give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import Family
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from linfusion_cli.errors import WeightsError
from linfusion_cli.evaluate.clip_score import ClipScorer

pytestmark = pytest.mark.slow  # all of them together

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path: Path, sd15: Family) -> Path:
    """A CLIP model of both towers, with the family's tokenizer."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(sd15.folder / "tokenizer")
    text = CLIPTextConfig(**SMALL, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    vision = CLIPVisionConfig(**SMALL, image_size=32, patch_size=8)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12))
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for part in (model, tokenizer, processor):
        part.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_scores_are_those_of_transformers(folder: Path) -> None:
    prompts = ["a lake", "snowy mountains at night " * 40]
    images = [
        torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 48, 80), dtype=np.uint8)) for seed in (0, 1)
    ]
    scorer = ClipScorer.load(folder, "cpu")
    found = [scorer.score(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessor.from_pretrained(folder)
    for image, prompt, score in zip(images, prompts, found, strict=True):
        pixels = processor(Image.fromarray(image.permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"]
        tokens = tokenizer(prompt, truncation=True, max_length=77, return_tensors="pt")
        with torch.inference_mode():
            out = model(pixel_values=pixels, **tokens)
        expected = 100 * max(float(torch.cosine_similarity(out.image_embeds, out.text_embeds)), 0)
        assert score == pytest.approx(expected, abs=0.5)  # the processor rounds the scaled image once more


def test_a_folder_without_such_a_model_is_named(tmp_path: Path, sd15: Family) -> None:
    with pytest.raises(WeightsError, match=f"{tmp_path}: no CLIP model of text and images"):
        ClipScorer.load(tmp_path, "cpu")
