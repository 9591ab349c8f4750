"""What people bring, by several ranks: the image of one process with ControlNet, LoRA, IP-Adapter and new words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family
from PIL import Image
from rank_work import make_image, plan_of
from ranks import Ranks
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(f"ranks-{request.param}") / "all")


@pytest.fixture(scope="module")
def brought(family: Family, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The options of each adapter, whose files are made for the family."""
    folder, pipeline = tmp_path_factory.mktemp("brought"), loaded_pipeline(family)
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "given.png")
    torch.manual_seed(8)
    if family.name == "sd15":
        words = {"emb_params": 2.0 * torch.randn(2, pipeline.text_encoder.config.hidden_size)}
    else:
        sizes = (pipeline.text_encoder.config.hidden_size, pipeline.text_encoder_2.config.hidden_size)
        words = {name: 2.0 * torch.randn(2, size) for name, size in zip(("clip_l", "clip_g"), sizes, strict=True)}
    save_file(words, folder / "moody.safetensors")
    return {
        "nothing": {},
        "lora": {"loras": (f"{save_loras(pipeline, folder)[0]}:0.7",)},
        "controlnet": {
            "controlnets": (str(save_controlnet(pipeline, folder / "net")),),
            "control_images": (folder / "given.png",),
            "control_ends": (0.6,),
        },
        "ip_adapter": {
            "ip_adapter": str(save_ip_adapter(pipeline, folder / "ip")),
            "ip_images": (folder / "given.png",),
            "ip_scale": 0.9,
        },
        "inversion": {
            "textual_inversions": (f"{folder / 'moody.safetensors'}:<moody>",),
            "prompt": "a <moody> lake at dawn",
        },
    }


def job(family: Family, **more: Any) -> dict[str, Any]:
    fixed = {"preset": str(family.preset()), "size": "104x136", "seed": 3, "between": "pixel", "negative_prompt": "fog"}
    return {"prompt": "a lake at dawn", **fixed, **more}


@pytest.fixture(scope="module")
def plain(family: Family) -> np.ndarray[Any, Any]:
    return make_image(None, job(family), {})[0]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["lora", "controlnet", "ip_adapter", "inversion"])
def test_the_image_of_one_process(
    ranks: Ranks, family: Family, brought: dict[str, dict[str, Any]], plain: np.ndarray[Any, Any], what: str
) -> None:
    """By two ranks, which split the guidance, and by three, which split rows; and the adapter does something."""
    asked = job(family, **brought[what])
    alone = make_image(None, asked, {})[0].astype(int)
    assert np.abs(alone - plain).max() > 2
    for size in (2, 3):
        rows = ranks.run(size, make_image, asked, {})[0][0]
        assert np.abs(rows.astype(int) - alone).max() <= 1


@pytest.mark.long
def test_all_at_once_in_three_stages_with_dilation(
    ranks: Ranks, family: Family, brought: dict[str, dict[str, Any]]
) -> None:
    """By two ranks, by three, and by two from what three had kept when they were interrupted."""
    asked = job(family, size="136x168")
    for options in brought.values():
        asked |= options
    stages = plan_of(asked).stages
    assert len(stages) == 3
    assert all(stage.dilated_steps and stage.dilation > 1 for stage in stages[1:])
    alone = make_image(None, asked, {})[0].astype(int)
    _, kept = ranks.run(3, make_image, asked, {}, 5)[0]
    assert "step" in kept
    for size, start in ((2, {}), (3, {}), (2, kept)):
        rows = ranks.run(size, make_image, asked, start)[0][0]
        assert np.abs(rows.astype(int) - alone).max() <= 1
