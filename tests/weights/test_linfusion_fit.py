"""LinFusion weights of another UNet are refused by the first self-attention that does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from golden import load_golden

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.linfusion_fit import check_linfusion_fit

DATA = Path(__file__).parents[1] / "data"


def unet(family: str) -> dict[str, Any]:
    return dict(load_golden(DATA / f"unet_{family}.safetensors")[1]["unet_config"])


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_weights_of_a_family(family: str) -> None:
    check_linfusion_fit(DATA / f"linfusion_{family}", unet(family))
    other = "sd15" if family == "sdxl" else "sdxl"
    with pytest.raises(WeightsError, match=r"linfusion_\w+: LinFusion weights of another model: the (UNet|file) alone"):
        check_linfusion_fit(DATA / f"linfusion_{family}", unet(other))


def test_another_width_and_a_folder_without_modules(tmp_path: Path) -> None:
    config = json.loads((DATA / "linfusion_sd15" / "config.json").read_text())
    config["modules_list"][0]["dim_n"] = 999
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="has 999 channels, the UNet"):
        check_linfusion_fit(tmp_path, unet("sd15"))
    (tmp_path / "config.json").write_text("{}")
    check_linfusion_fit(tmp_path, unet("sd15"))
    check_linfusion_fit(tmp_path / "nothing", unet("sd15"))
