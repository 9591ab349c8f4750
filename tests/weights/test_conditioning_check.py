"""A UNet that does not read what the text encoders give is refused by the setting that tells it."""

from typing import Any

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import read_json
from linfusion_cli.models import family_folder
from linfusion_cli.weights.conditioning_check import check_conditioning


def check(family: str, **changes: Any) -> None:
    folder = family_folder(family)
    path = folder / "unet" / "config.json"
    check_conditioning(read_json(path) | changes, folder, path)


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_families(family: str) -> None:
    check(family)
    with pytest.raises(WeightsError, match=r"unet/config\.json: its cross_attention_dim is 999, the model's text is"):
        check(family, cross_attention_dim=999)


@pytest.mark.parametrize("key", ["addition_time_embed_dim", "projection_class_embeddings_input_dim"])
def test_the_embedding_of_the_size(key: str) -> None:
    with pytest.raises(WeightsError, match=rf"unet/config\.json: .*{key}") as refused:
        check("sdxl", **{key: 300})
    assert "1280 (projection_dim of text_encoder_2)" in str(refused.value)
