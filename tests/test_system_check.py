"""The doctor: on a machine with nothing cached it says exactly what to type; with weights, what would run."""

import json
from pathlib import Path

import pytest

from linfusion_cli import system_check
from linfusion_cli.cli.app import main
from linfusion_cli.cli.spelling import told
from linfusion_cli.config import preset_files as files_of_presets
from linfusion_cli.errors import Message
from linfusion_cli.system.gpu_probe import Accelerators
from linfusion_cli.system_check import Finding, examine

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files_of_presets, "user_folder", lambda: tmp_path / "presets")
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


@pytest.mark.parametrize(
    ("bfloat16", "said"),
    [
        (True, "bfloat16, in hardware here: about twice as fast"),
        (False, "bfloat16, slow without AVX512_BF16 or AMX"),
        (None, "bfloat16; float16, slow"),
    ],
)
def test_the_number_formats_of_a_cpu(bfloat16: bool | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_check, "has_bfloat16", lambda: bfloat16)
    found = findings()["number formats"]
    assert said in found.found
    assert ("--dtype bfloat16" in told(Message(found.found))) is bool(bfloat16)


def test_a_package_that_is_missing_has_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    own = system_check._version
    monkeypatch.setattr(system_check, "_version", lambda name: "" if name in ("peft", "diffusers") else own(name))
    found = findings()
    assert (found["peft"].state, found["peft"].fix) == ("missing", 'pip install "linfusion-cli[lora]"')
    assert (found["diffusers"].state, found["diffusers"].fix) == ("bad", "pip install diffusers")


def test_a_broken_preset_and_a_full_disk_do_not_stop_it(nothing_cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nothing_cached / "presets").mkdir()
    (nothing_cached / "presets" / "mine.toml").write_text("[sampling]\nsteps = 0\n")
    monkeypatch.setattr(system_check, "free_bytes", lambda _: 10**9)
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


def test_a_gpu_that_torch_can_not_use_is_in_the_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unused = {
        "gpus": (),
        "driver": "570.86",
        "driver_cuda": (12, 8),
        "present": ("NVIDIA",),
        "refused": "",
        "limit": "",
        "complaint": "",
    }
    monkeypatch.setattr(system_check, "may_have_accelerator", lambda: True)
    monkeypatch.setattr(
        system_check, "look_here", lambda: Accelerators(torch_version="2.13.0+cpu", build="cpu", **unused)
    )
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "fix: pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126" in out
    assert "To fix: GPU" in out


def test_without_torch_a_gpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    own = system_check._version
    monkeypatch.setattr(system_check, "_version", lambda name: "" if name == "torch" else own(name))
    monkeypatch.setattr(system_check, "may_have_accelerator", lambda: True)
    found = findings()
    assert (found["torch"].state, found["torch"].fix) == ("bad", "pip install torch")
    assert "torch build" not in found
