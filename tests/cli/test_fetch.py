"""`linfusion fetch`: what is here is checked, what is not is told with the flag that names it, one line for each."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.cli.app import main
from linfusion_cli.weights.checksums import SUMS


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):  # the command sets them for its process
        monkeypatch.setenv(name, "1")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    save_file({"a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_nothing_to_fetch_says_what_could_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch"]) == 2
    assert "a preset such as sd15-4k, or --model, --lora" in capsys.readouterr().err


def test_what_is_here_is_told_on_stderr(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "landscape", "--lora", str(lora)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"lora: {lora} is here"
    for given in ("", ":0.8", ":0.8:1@upscale"):
        assert main(["fetch", "--lora", f"{lora}{given}", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_programs_read_one_line_for_each(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--lora", str(lora), "--vae", "owner/missing", "--offline", "--json"]) == 66
    vae, fetched, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (vae["type"], vae["kind"], vae["locations"]) == ("failed", "vae", ["owner/missing"])
    assert "linfusion fetch --vae owner/missing" in vae["message"]
    assert (fetched["type"], fetched["kind"], fetched["path"]) == ("fetched", "lora", str(lora))
    assert (last["type"], last["exit_code"]) == ("error", 66)


def test_a_failure_does_not_keep_the_others_from_being_fetched(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fetch", "--lora", "owner/one", "--lora", str(lora), "--controlnet", "owner/two", "--offline"]
    assert main(words) == 66
    err = capsys.readouterr().err
    assert f"lora: {lora} is here" in err
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert ["--lora owner/one" in failed[0], "--controlnet owner/two" in failed[1]] == [True, True]
    assert "2 of 3 could not be fetched; the first: " in err


def test_a_file_in_the_home_folder_is_no_repository(
    lora: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(lora.parent))
    assert main(["fetch", "--lora", "~/x.safetensors"]) == 0
    assert "is here" in capsys.readouterr().err


def test_what_is_here_is_checked_again(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lora.parent / SUMS).write_text(f"{'0' * 64}  {lora.name}\n")
    assert main(["fetch", "--lora", str(lora)]) == 66
    assert "x.safetensors: damaged" in capsys.readouterr().err
    lora.write_bytes(lora.read_bytes()[:-3])
    assert main(["fetch", "--lora", str(lora)]) == 66
    assert "cut off" in capsys.readouterr().err


def test_a_model_brings_the_linear_attention_of_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--model", "builtin:landscape", "--offline"]) == 66
    err = capsys.readouterr().err
    assert "model: builtin:landscape is here" in err
    assert "LinFusion-1-5" in err
