"""What a preset needs is known before any work: what is missing, damaged or changed is named, with what to do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.config.extras import fingerprints
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.required_weights import (
    check_weights,
    lost_weights,
    missing_weights,
    refuse_changed,
    refuse_missing,
    requirements_of,
)
from linfusion_cli.errors import WeightsError
from linfusion_cli.files import sha256_of
from linfusion_cli.weights.checksums import SUMS


def settings(preset: str = "landscape", model: dict[str, Any] | None = None, **extras: Any) -> Preset:
    found = load_preset(preset).settings
    return found.model_copy(
        update={
            "model": found.model.model_copy(update=model or {}),
            "extras": found.extras.model_copy(update=extras),
        }
    )


@pytest.fixture
def lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_file({"a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_every_part_is_a_requirement() -> None:
    full = settings(
        model={"unet": "a/unet", "vae": "a/vae", "attention": "linear"},
        loras=("a/lora:0.5",),
        textual_inversions=("a/words:<x>",),
        controlnets=("a/net",),
        ip_adapter="a/ip",
        ip_encoder="a/encoder",
    )
    found = {requirement.kind: requirement for requirement in requirements_of(full)}
    assert found.keys() == {
        *("model", "unet", "linfusion", "vae", "lora", "textual-inversion", "controlnet", "ip-adapter", "ip-encoder")
    }
    assert found["lora"].locations == ("a/lora",)
    assert found["textual-inversion"].locations == ("a/words",)
    assert found["controlnet"].variant == "fp16"
    assert all(requirement.family == "sd15" for requirement in found.values())


@pytest.mark.parametrize(("attention", "base", "needed"), [("linear", "softmax", True), ("softmax", "softmax", False)])
def test_linear_attention_is_needed_where_a_stage_uses_it(attention: str, base: str, needed: bool) -> None:
    found = requirements_of(settings(model={"attention": attention, "base_attention": base}))
    assert ("linfusion" in {requirement.kind for requirement in found}) == needed


def test_the_built_in_model_is_always_here() -> None:
    refuse_missing(settings(), "landscape")
    check_weights(settings(), "landscape")


def test_what_the_preset_needs_is_fetched_with_it_and_what_is_added_by_itself() -> None:
    with pytest.raises(WeightsError, match=r"linfusion fetch sd15-4k$"):
        refuse_missing(settings("sd15-4k"), "sd15-4k")
    with pytest.raises(WeightsError, match=r"linfusion fetch lora=.a/lora"):
        refuse_missing(settings(loras=("a/lora:0.5",)), "landscape")


@pytest.mark.parametrize("key", ["vae_float16", "linfusion"])
def test_what_depends_on_the_number_format_and_the_stages_is_left_to_loading(key: str) -> None:
    location = "a/missing" if key == "vae_float16" else ("a/missing",)
    refuse_missing(settings(model={key: location}), "landscape")
    with pytest.raises(WeightsError, match="a/missing"):
        refuse_missing(settings(model={"vae": "a/missing"}), "landscape")


@pytest.mark.parametrize("folder", [False, True])
def test_a_damaged_file_is_found_before_the_work(lora: Path, folder: bool) -> None:
    location = lora.parent if folder else lora
    (lora.parent / SUMS).write_text(f"{sha256_of(lora)}  {lora.name}\n")
    check_weights(settings(loras=(str(location),)), "landscape")
    save_file({"a.lora_down.weight": torch.zeros(2, 3)}, lora)
    with pytest.raises(WeightsError, match=r"x\.safetensors: damaged"):
        check_weights(settings(loras=(str(location),)), "landscape")


@pytest.mark.parametrize("change", ["changed", "gone", "new"])
def test_weights_that_changed_since_the_plan_are_named(lora: Path, change: str) -> None:
    asked = settings(loras=(str(lora),))
    planned = fingerprints(asked)
    refuse_changed(asked, planned)
    if change == "changed":
        lora.write_bytes(b"other")
    elif change == "gone":
        lora.unlink()
    else:
        planned = {}
    with pytest.raises(WeightsError, match=r"^x\.safetensors: these weights changed.*Plan again"):
        refuse_changed(asked, planned)


def test_all_that_is_missing_is_one_command() -> None:
    asked = settings("sdxl-4k", loras=("a/lora:0.5", "./gone.safetensors"), controlnets=("a/net",))
    lost, away = missing_weights(asked, "sdxl-4k", frozenset())
    assert str(lost) == "loras ./gone.safetensors: there is no such file or folder".replace("loras", "lora")
    command = 'linfusion fetch sdxl-4k lora="a/lora" controlnet="a/net"'
    assert str(away).endswith(command)
    assert all(name in str(away) for name in ("stable-diffusion-xl-base-1.0", "LinFusion-XL", "sdxl-vae-fp16-fix"))
    with pytest.raises(WeightsError) as refused:
        refuse_missing(asked, "sdxl-4k", frozenset())
    assert str(refused.value) == f"{lost}\n{away}"


def test_a_long_command_is_never_cut() -> None:
    loras = tuple(f"owner{number}/some-quite-long-name-of-a-lora" for number in range(7))
    (away,) = missing_weights(settings(loras=loras), "landscape")
    assert " ... " not in str(away)
    assert str(away).startswith("weights are not on this machine: 7 locations. Fetch them with: ")
    assert all(f'lora="{lora}"' in str(away) for lora in loras)


@pytest.mark.parametrize("kind", ["vae", "linfusion"])
def test_what_the_plan_uses_is_required(kind: str) -> None:
    asked = settings(model={kind: "a/missing" if kind == "vae" else ("a/missing",)})
    (away,) = missing_weights(asked, "landscape", frozenset())
    assert f'{kind}="a/missing"' in str(away)
    assert missing_weights(asked, "landscape", frozenset({"vae", "linfusion"})) == ()


def test_a_location_beside_others_is_followed_too(tmp_path: Path) -> None:
    asked = settings(model={"linfusion": ("./nix", "builtin:landscape"), "configs": str(tmp_path / "no")})
    assert missing_weights(asked, "landscape", frozenset()) == ()
    assert [str(error).split(": ")[1] for error in lost_weights(asked)] == [
        "there is no such file or folder",
        "there is no such folder",
    ]


def adapter_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    save_file({"image_proj.proj.weight": torch.ones(3072, 1024)}, folder / "ip-adapter_sd15.safetensors")
    return folder / "ip-adapter_sd15.safetensors"


def test_an_adapter_without_its_encoder_is_told_with_all_that_is_missing(tmp_path: Path) -> None:
    """A file of the user's own: where its encoder has to be, and the option that names another."""
    file = adapter_in(tmp_path / "models")
    lost, away = missing_weights(settings(ip_adapter=str(file), loras=("a/lora",)), "landscape")
    assert "its image encoder is missing" in str(lost)
    assert "ip_encoder" in str(lost)
    assert "linfusion fetch" in str(away)
    (tmp_path / "models" / "image_encoder").mkdir()
    (tmp_path / "models" / "image_encoder" / "config.json").write_text("{}")
    assert missing_weights(settings(ip_adapter=str(file)), "landscape") == ()


def test_an_adapter_in_the_cache_without_its_encoder_is_fetched_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "models--owner--ip"
    adapter_in(folder / "snapshots" / "c0" / "models")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0")
    given = settings(ip_adapter="owner/ip", loras=("a/lora",))
    (error,) = missing_weights(given, "landscape")
    options = [(part.key, part.value) for part in error.message.parts if not isinstance(part, str)]
    assert options == [("lora", "a/lora"), ("ip_adapter", "owner/ip")]
    assert missing_weights(settings(ip_adapter="owner/ip", ip_encoder=str(tmp_path)), "landscape") == ()


def test_the_model_of_a_few_step_preset_is_fetched_without_its_unet() -> None:
    model, unet, *_ = requirements_of(load_preset("sdxl-lightning-4k").settings)
    assert (model.kind, model.without, unet.kind) == ("model", ("unet",), "unet")
    whole, *_ = requirements_of(load_preset("sdxl-4k").settings)
    assert whole.without == ()
