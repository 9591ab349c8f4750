"""Tiny teachers of the three families, and captioned images in every container."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from linfusion_cli.landscapes.tokenizer import build_tokenizer

FAMILIES = ("sd15", "sd21", "sdxl")
HEADS = {"sd15": 2, "sd21": (1, 2), "sdxl": (1, 2)}


def _text(kind: type, dim: int = 16) -> torch.nn.Module:
    tokenizer = build_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=dim, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=48, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        projection_dim=dim,
    )  # fmt: skip
    return kind(config)


def _unet(family: str) -> UNet2DConditionModel:
    xl = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 16 + 24,
    }
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 24),
        layers_per_block=1,
        cross_attention_dim=32 if family == "sdxl" else 16,
        attention_head_dim=HEADS[family],
        norm_num_groups=8,
        use_linear_projection=family != "sd15",
        **(xl if family == "sdxl" else {}),
    )


def save_teacher(family: str, folder: Path) -> Path:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
    )
    kind = "v_prediction" if family == "sd21" else "epsilon"
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, prediction_type=kind
    )
    parts = {
        "vae": vae,
        "text_encoder": _text(CLIPTextModel),
        "tokenizer": build_tokenizer(),
        "unet": _unet(family),
        "scheduler": scheduler,
    }
    if family == "sdxl":
        pipeline = StableDiffusionXLPipeline(
            **parts, text_encoder_2=_text(CLIPTextModelWithProjection), tokenizer_2=build_tokenizer()
        )
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of a tiny random pipeline, by family."""
    return {family: save_teacher(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


def png(shade: int, size: tuple[int, int] = (80, 72)) -> bytes:
    levels = np.full((size[1], size[0], 3), shade, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of shades 0, 40, ... with captions "shade 0", ..."""
    place = tmp_path / "pictures" / "deeper"
    place.mkdir(parents=True)
    for shade in range(0, 240, 40):
        (place / f"{shade:03d}.png").write_bytes(png(shade))
        (place / f"{shade:03d}.txt").write_text(f"shade {shade}\n")
    return tmp_path / "pictures"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """The same in two webdataset tars, one with captions in JSON."""
    place = tmp_path / "shards"
    place.mkdir()
    for number, shades in enumerate(((0, 40, 80), (120, 160, 200))):
        with tarfile.open(place / f"{number}.tar", "w") as tar:
            for shade in shades:
                text = ("txt", f"shade {shade}") if number else ("json", json.dumps({"caption": f"shade {shade}"}))
                for suffix, data in (("png", png(shade)), (text[0], text[1].encode())):
                    info = tarfile.TarInfo(f"{shade:03d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return place


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """The same in a parquet file of three row groups."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    rows = {
        "image": [{"bytes": png(shade), "path": None} for shade in range(0, 240, 40)],
        "text": [f"shade {shade}" for shade in range(0, 240, 40)],
    }
    schema = pyarrow.schema(
        [
            ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
            ("text", pyarrow.string()),
        ]
    )
    writer.write_table(pyarrow.table(rows, schema=schema), tmp_path / "train.parquet", row_group_size=2)
    return tmp_path / "train.parquet"
