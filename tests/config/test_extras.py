"""What a user brings along is looked at before any work: weights, words, families, images, and their companions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.config.extras import (
    Start,
    check_companions,
    check_family,
    check_growth,
    control_images,
    each,
    family_here,
    fingerprints,
    grown_from,
    inversion,
    ip_images,
    local_name,
    local_names,
    locations_of,
    preset_name,
    start_from,
)
from linfusion_cli.config.preset_files import DEFAULT_PRESET
from linfusion_cli.config.preset_schema import ExtrasSettings, Preset
from linfusion_cli.config.presets import Given, load_preset
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.geometry import Size, parse_size, stage_sizes


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((96, 160, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def extras(**changes: Any) -> ExtrasSettings:
    return load_preset("landscape").settings.extras.model_copy(update=changes)


def with_loras(*loras: Path) -> Preset:
    settings = load_preset("landscape").settings
    return settings.model_copy(update={"extras": extras(loras=tuple(map(str, loras)))})


def test_folders_of_this_machine_stay_private(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    for given in ("", ":0.8", ":0.8:0.5", "@base", ":0.8@upscale", ":word"):
        assert local_name(f"{tmp_path}/a.safetensors{given}") == f"a.safetensors{given}"
    (tmp_path / "odd@base").mkdir()
    assert local_name(f"{tmp_path}/odd@base") == "odd@base"
    for elsewhere in ("owner/name@v1", "owner/name:0.5@upscale", "builtin:landscape", "a.safetensors@other"):
        assert local_name(elsewhere) == elsewhere


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("moody.safetensors", ("moody.safetensors", "moody")),
        ("a/moody.safetensors:<mine>", ("a/moody.safetensors", "<mine>")),
        ("owner/name:word", ("owner/name", "word")),
        ("https://huggingface.co/owner/name:word", ("https://huggingface.co/owner/name", "word")),
    ],
)
def test_the_word_of_an_embedding(text: str, expected: tuple[str, str]) -> None:
    assert inversion(text) == expected


def test_the_preset_follows_the_model_unless_one_is_named() -> None:
    assert preset_name(None, None) == DEFAULT_PRESET
    assert preset_name("sdxl-4k", "owner/not-here") == "sdxl-4k"
    assert preset_name(None, "builtin:landscape") == "sd15-4k"
    with pytest.raises(WeightsError, match=r"linfusion fetch model=.owner/not-here"):
        preset_name(None, "owner/not-here")


def test_the_family_of_a_model_that_is_not_here_is_unknown_and_passes() -> None:
    settings = load_preset("sdxl-4k").settings
    assert family_here(None) is family_here("owner/not-here") is None
    check_family(None, settings, "sdxl-4k")
    check_family("sdxl", settings, "sdxl-4k")
    with pytest.raises(UsageError, match=r"family sd15 .*sdxl-4k is for sdxl.*Nearest: preset=.sd15-4k"):
        check_family(family_here("builtin:landscape"), settings, "sdxl-4k")


def test_an_image_is_upscaled_or_drawn_again(photo: Path) -> None:
    drawn, grown = start_from(photo, None), start_from(None, photo)
    assert start_from(None, None) is None
    assert isinstance(drawn, Start)
    assert isinstance(grown, Start)
    assert (drawn.refined, drawn.parameter, grown_from(drawn)) == (True, "init_image", None)
    assert (grown.refined, grown.parameter, grown_from(grown)) == (False, "upscale_image", Size(160, 96))
    with pytest.raises(UsageError, match="no such file") as caught:
        start_from(None, photo.with_name("other.png"))
    assert caught.value.parameter == "upscale_image"


@pytest.mark.parametrize("size", ["160x96", "64x64", "160x64"])
def test_the_nearest_size_of_an_upscale_has_another_stage(photo: Path, size: str) -> None:
    loaded = load_preset("landscape", {"output.size": Given(option="size", value=size)})
    start = start_from(None, photo)
    with pytest.raises(UsageError, match="160x96 already") as caught:
        check_growth(loaded, parse_size(size), start)
    nearest = parse_size(str(caught.value).split("size=")[1].strip('"'))
    model, upscale = loaded.settings.model, loaded.settings.upscale
    assert len(stage_sizes(nearest, model.train_size_px**2, upscale.factor, Size(160, 96))) > 1
    check_growth(loaded, nearest, start)


def test_a_first_stage_of_less_than_a_step_is_refused_with_enough_steps() -> None:
    few = {
        "sampling.steps": Given(option="steps", value=4),
        "upscale.strength": Given(option="upscale_strength", value=0.2),
    }
    with pytest.raises(UsageError, match=r"less than one step.*Nearest: 5$"):
        check_growth(load_preset("landscape", few), Size(2048, 2048), None)
    few["sampling.steps"] = replace(few["sampling.steps"], value=5)
    check_growth(load_preset("landscape", few), Size(2048, 2048), None)


@pytest.mark.parametrize(
    ("key", "option", "companion"),
    [
        ("extras.control_scales", "control_scales", "controlnets"),
        ("extras.control_preprocess", "control_preprocess", "controlnets"),
        ("extras.ip_scale", "ip_scale", "ip_adapter"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(key: str, option: str, companion: str) -> None:
    given = {key: Given(option=option, value=0.5)}
    with pytest.raises(UsageError, match=f"{option} wants {companion}"):
        check_companions(given, extras(), None)
    check_companions(given, extras(controlnets=("a/b",), ip_adapter="a/b"), None)
    check_companions({}, extras(), None)


def test_each_controlnet_has_one_image_and_its_own_scale_or_the_same(photo: Path) -> None:
    nets = extras(controlnets=("a/b", "c/d"))
    assert len(control_images((photo, photo), nets)) == 2
    with pytest.raises(UsageError, match="2 of controlnets and 1 of control_images"):
        control_images((photo,), nets)
    with pytest.raises(UsageError, match="control_scales is given 3 times for 2 ControlNets"):
        control_images((photo, photo), nets.model_copy(update={"control_scales": (1.0, 1.0, 1.0)}))
    assert each((0.5,), 3) == (0.5, 0.5, 0.5)
    assert each((0.5, 0.7), 2) == (0.5, 0.7)


def test_an_ip_adapter_and_its_images_come_together(photo: Path) -> None:
    assert ip_images((), extras()) == ()
    assert len(ip_images((photo, photo), extras(ip_adapter="a/b"))) == 2
    with pytest.raises(UsageError, match="ip_images wants ip_adapter"):
        ip_images((photo,), extras())
    with pytest.raises(UsageError, match="ip_adapter wants ip_images"):
        ip_images((), extras(ip_adapter="a/b"), None)


def test_every_location_of_the_settings_is_named_once() -> None:
    settings = load_preset("landscape").settings
    full = extras(
        loras=("a/lora:0.5", "a/lora:0.7"),
        textual_inversions=("a/words:<x>",),
        controlnets=("a/net", "a/net"),
        ip_adapter="a/ip",
        ip_encoder="a/encoder",
    )
    model = settings.model.model_copy(update={"vae": "a/vae", "unet": "a/unet"})
    found = locations_of(settings.model_copy(update={"extras": full, "model": model}))
    assert len(found) == len(set(found))
    assert {"a/lora", "a/words", "a/net", "a/ip", "a/encoder", "a/vae", "a/unet"} <= set(found)
    assert "" not in found


def test_own_files_of_the_same_name_are_all_looked_at(tmp_path: Path) -> None:
    files = [tmp_path / folder / "x.safetensors" for folder in ("a", "b", "c")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(bytes([number]))
    settings = with_loras(*files)
    before = fingerprints(settings)
    assert list(before) == ["x.safetensors", "x.safetensors (2)", "x.safetensors (3)"]
    for file, name in zip(files, before, strict=True):
        kept = file.read_bytes()
        file.write_bytes(b"other")
        assert {key for key, value in fingerprints(settings).items() if value != before[key]} == {name}
        file.write_bytes(kept)


def test_one_file_has_one_fingerprint_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    assert list(fingerprints(with_loras(tmp_path / "x.safetensors", Path("x.safetensors")))) == ["x.safetensors"]


def test_what_nobody_could_exchange_has_no_fingerprint() -> None:
    assert fingerprints(load_preset("landscape").settings) == {}


def test_values_of_repeated_options_are_shown_without_folders(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    assert local_names((f"{tmp_path}/a.safetensors:0.8", "owner/name", 0.5)) == ("a.safetensors:0.8", "owner/name", 0.5)
