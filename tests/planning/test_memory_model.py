"""What runtime, weights and images hold: everything on a CPU, the device's share beside an accelerator."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli.planning import memory_model as model
from linfusion_cli.planning.model_shapes import OnTop, family_architecture

SDXL = replace(
    family_architecture("sdxl"), on_top=OnTop(mounted_parameters=10, text_encoder_parameters=20, held_bytes=30)
)
UNET, VAE = SDXL.unet, SDXL.vae
PHOTO: Any = SimpleNamespace(held_bytes=100, reading_bytes=400)
ICON: Any = SimpleNamespace(held_bytes=10, reading_bytes=30)


@pytest.mark.parametrize("dtype", model.BYTES_OF)
def test_every_part_counts_in_its_own_number_format(dtype: str) -> None:
    number = model.BYTES_OF[dtype]
    parts = model.model_bytes(SDXL, dtype, controlnets=2, resident=True)
    assert parts.unet == (UNET.parameters + UNET.linear_parameters + 2 * UNET.controlnet_parameters) * number
    assert parts.vae == VAE.parameters * (2 if dtype == "bfloat16" else 4), "float16 is too narrow for SD-XL's"
    assert parts.read == parts.unet + parts.vae + parts.adapters + parts.text_encoders
    assert (parts.adapters, parts.adapter_files) == (10 * number, 30)


def test_streamed_weights_take_a_block_at_a_time_but_all_are_read() -> None:
    whole, streamed = (
        model.model_bytes(SDXL, "float16", controlnets=1, resident=resident) for resident in (True, False)
    )
    assert streamed.unet == UNET.streamed_parameters * 2 < whole.unet
    assert streamed.read == whole.read


def test_text_encoders_that_stay_count_in_ram_and_not_on_a_card() -> None:
    parts = model.model_bytes(SDXL, "float32", controlnets=0, resident=True)
    going, staying = (model.unified_denoising_bytes(parts, 7, keep_text_encoders=keep) for keep in (False, True))
    assert staying - going == parts.text_encoders
    assert model.card_denoising_bytes(parts) - 500e6 == going - 7 - parts.adapter_files


def test_encoding_comes_before_unet_and_vae_unless_the_encoders_stay() -> None:
    parts = model.model_bytes(SDXL, "float32", controlnets=0, resident=True)
    alone = model.unified_encoding_bytes(parts, 7, (), keep_text_encoders=False)
    assert alone == 7 + parts.text_encoders + parts.adapters + parts.adapter_files
    assert model.unified_encoding_bytes(parts, 7, (), keep_text_encoders=True) == alone + parts.unet + parts.vae
    assert model.card_encoding_bytes(parts) == model.RUNTIME_BYTES["cuda"] + parts.text_encoders


def test_images_wait_together_and_the_hungriest_is_read_last() -> None:
    assert model.image_bytes((PHOTO, ICON), reading=False) == 110
    assert model.image_bytes((PHOTO, ICON), reading=True) == 110 + 300
    assert model.image_bytes((), reading=True) == 0


def test_images_of_an_adapter_are_encoded_one_after_the_other() -> None:
    parts = model.model_bytes(SDXL, "float32", controlnets=0, resident=True)
    without, both = (
        model.unified_encoding_bytes(parts, 7, images, keep_text_encoders=False) for images in ((), (PHOTO, ICON))
    )
    assert both - without == PHOTO.reading_bytes


def test_imports_beyond_the_assumed_ones_are_counted_whole() -> None:
    """763 MB of the default build of PyPI, where 388 were assumed."""
    assert (
        model.unified_runtime_bytes("cpu", 0)
        == model.unified_runtime_bytes("cpu", 388_000_000)
        == model.RUNTIME_BYTES["cpu"]
    )
    assert model.unified_runtime_bytes("cpu", 763_000_000) - model.unified_runtime_bytes("cpu", 0) == 375e6
