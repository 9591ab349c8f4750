"""Few-step models and LoRAs get one note, with the settings that suit them, where others are set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_files import shipped_folder
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.few_step import KINDS, few_step_note
from linfusion_cli.planning.job_weights import JobWeights

pytestmark = pytest.mark.slow  # all of them together


def job(**changes: Any) -> Job:
    return resolve(Request(**{"prompt": "x", "preset": "sdxl-4k", "output": Path("x.png"), **changes}))


def note(*, told_guidance: bool = False, **changes: Any) -> str:
    asked = job(**changes)
    found = few_step_note(asked, JobWeights.of(asked), told_guidance=told_guidance)
    return "" if found is None else told(found)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        (
            "ByteDance/SDXL-Lightning/sdxl_lightning_8step_lora.safetensors",
            "--steps 8 --guidance 1.0 --timestep-spacing t",
        ),
        (
            "latent-consistency/lcm-lora-sdxl",
            "a latent consistency model, made for few steps. Settings that suit it: --st",
        ),
        (
            "ByteDance/Hyper-SD/Hyper-SDXL-4steps-lora.safetensors",
            "--steps 4 --guidance 1.0 --timestep-spacing trailing",
        ),
        ("ByteDance/Hyper-SD/Hyper-SDXL-1step-lora.safetensors", "--steps 1 --guidance 1.0 --scheduler tcd"),
        ("ByteDance/Hyper-SD/Hyper-SDXL-8steps-CFG-lora.safetensors", "--steps 8 --timestep-spacing trailing"),
        ("tianweiy/DMD2/dmd2_sdxl_4step_lora_fp16.safetensors", "--steps 4 --guidance 1.0 --scheduler lcm"),
        ("h1t/TCD-SDXL-LoRA", "--steps 4 --guidance 1.0 --scheduler tcd"),
        ("owner/sd_xl_turbo_lora_v1.safetensors", "--steps 4 --guidance 1.0 --timestep-spacing trailing"),
    ],
)
@pytest.mark.covers("few-step models and LoRAs with other settings", "a note")
def test_a_lora_is_known_by_its_name(location: str, says: str) -> None:
    assert says in note(loras=(location,))
    assert note(loras=(f"{location}:0",)) == ""


def test_the_settings_of_a_note_leave_none() -> None:
    """Every kind: what the note says, given as options, is accepted, and the note is gone."""
    names = {
        "Lightning": "lightning",
        "DMD2": "dmd2",
        "TCD": "tcd",
        "Turbo": "turbo",
        "Hyper-SD": "hyper",
        "Hyper-SD with guidance": "hyper-cfg",
        "Hyper-SD in one step": "hyper-1step",
        "a latent consistency model": "lcm",
    }
    assert {kind.name for kind in KINDS} == names.keys()
    for name in names.values():
        words = note(loras=(f"o/{name}",)).partition("suit it: ")[2].replace("--", "").replace("-", "_").split()
        given: dict[str, Any] = dict(zip(words[::2], words[1::2], strict=True))
        for key, kind in (("steps", int), ("guidance", float)):
            given |= {key: kind(given[key])} if key in given else {}
        strength = {"upscale_strength": 1.0} if given.get("steps") == 1 else {}
        assert note(loras=(f"o/{name}",), **given, size="1024x1024", **strength) == ""


def test_one_that_predicts_the_image_itself_is_told() -> None:
    given = {"steps": 1, "guidance": 1.0, "timestep_spacing": "trailing", "scheduler": "euler", "upscale_strength": 1.0}
    unet = "ByteDance/SDXL-Lightning/sdxl_lightning_1step_unet_x0.safetensors"
    assert "predicts the image itself (x0)" in note(unet=unet, **given)


def test_ordinary_files_get_none(tmp_path: Path) -> None:
    for name in ("armour.safetensors", "hyperrealism_xl.safetensors", "turbocharger.safetensors", "anime-50-steps"):
        assert note(loras=(f"owner/{name}",)) == "", name


@pytest.mark.covers("few-step models and LoRAs with other settings", "a note")
def test_a_file_is_known_by_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"ss_output_name": "my_LCM_lora"})
    assert "pytorch_lora_weights.safetensors looks like a latent consistency model" in note(loras=(str(path),))


def test_a_folder_says_it(tmp_path: Path) -> None:
    folder = tmp_path / "lcm-lora-sdxl"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, folder / "pytorch_lora_weights.safetensors")
    assert "--scheduler lcm" in note(loras=(str(folder / "pytorch_lora_weights.safetensors"),))


@pytest.mark.parametrize("name", ["sdxl-lightning-4k", "sdxl-turbo-4k", "lcm-4k"])
def test_the_presets_suit_their_models(name: str) -> None:
    assert (shipped_folder() / f"{name}.toml").exists()
    assert note(preset=name, told_guidance=name == "lcm-4k") == ""
    assert "--steps 4" in note(preset=name, steps=30, told_guidance=name == "lcm-4k")


def test_a_unet_that_is_told_its_guidance_needs_no_name() -> None:
    assert note(told_guidance=True) == (
        "the UNet looks like a latent consistency model, made for few steps. Settings that suit it: --steps 4 "
        "--scheduler lcm"
    )
