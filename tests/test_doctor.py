"""The doctor: on a machine with nothing cached it says exactly what to type; with weights, what would run."""

import json
from pathlib import Path

import pytest

from linfusion_cli import doctor, preset
from linfusion_cli.cli.app import main
from linfusion_cli.doctor import Finding, examine


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preset, "user_folder", lambda: tmp_path / "presets")
    return tmp_path


def findings() -> dict[str, Finding]:
    return {finding.about: finding for finding in examine()}


def test_with_nothing_cached_every_preset_has_its_fetch_command() -> None:
    found = findings()
    assert found["preset landscape"].state == "ok"
    assert found["preset landscape"].found.startswith("runs: 3840x2160 in float32")
    for name in ("sd15-4k", "sd21-8k", "sdxl-16k"):
        assert (found[f"preset {name}"].state, found[f"preset {name}"].fix) == ("missing", f"linfusion fetch {name}")
    assert "linfusion (Yuanshi/LinFusion-XL), vae (madebyollin/sdxl-vae-fp16-fix)" in found["preset sdxl-4k"].found


def test_a_package_that_is_missing_has_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    own = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name in ("peft", "diffusers") else own(name))
    found = findings()
    assert (found["peft"].state, found["peft"].fix) == ("missing", 'pip install "linfusion-cli[lora]"')
    assert (found["diffusers"].state, found["diffusers"].fix) == ("bad", "pip install diffusers")


def test_a_broken_preset_and_a_full_disk_do_not_stop_it(nothing_cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nothing_cached / "presets").mkdir()
    (nothing_cached / "presets" / "mine.toml").write_text("[sampling]\nsteps = 0\n")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**9})())
    found = findings()
    assert found["preset mine"].state == "bad"
    assert "steps = 0" in found["preset mine"].found
    assert found["disk for weights"].fix == "set HF_HOME to a folder on a larger disk"


def test_the_command_says_no_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canaryCANARY")
    assert main(["doctor", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line["about"] == "hub" for line in lines)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "Ready to use: landscape" in out
    assert "canary" not in json.dumps(lines) + out
