"""CLIP's words without its files: the published numbers, and the length and padding of each family."""

import json
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.engine.loading.clip_tokenizer import clip_tokenizer
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder

# As openai/clip-vit-large-patch14 numbers them.
START, END = 49406, 49407
PHOTO_OF_A_CAT = [START, 320, 1125, 539, 320, 2368, END]


def configured(folder: Path, **config: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_words_have_the_published_numbers() -> None:
    tokenizer = clip_tokenizer(family_folder("sd15") / "tokenizer")
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == PHOTO_OF_A_CAT
    assert tokenizer("A  Photo of a CAT").input_ids == PHOTO_OF_A_CAT
    assert tokenizer.decode(tokenizer("☃ déjà").input_ids, skip_special_tokens=True).strip() == "☃ déjà"


@pytest.mark.parametrize(
    ("family", "part", "padding"), [("sd15", "tokenizer", END), ("sd21", "tokenizer", 0), ("sdxl", "tokenizer_2", 0)]
)
def test_each_family_pads_as_it_was_trained(family: str, part: str, padding: int) -> None:
    tokenizer = clip_tokenizer(family_folder(family) / part)
    padded = tokenizer("a photo of a cat", padding="max_length", truncation=True).input_ids
    assert padded == PHOTO_OF_A_CAT + [padding] * (77 - len(PHOTO_OF_A_CAT))


@pytest.mark.parametrize(
    "config", [{}, {"pad_token": {"content": "<|endoftext|>", "lstrip": False}}, {"model_max_length": 77}]
)
def test_configs_of_older_libraries_are_read(tmp_path: Path, config: dict[str, Any]) -> None:
    tokenizer = clip_tokenizer(configured(tmp_path, **config))
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 77


def test_a_config_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json"):
        clip_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json"):
        clip_tokenizer(tmp_path)
