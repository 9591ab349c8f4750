"""Fetching from a local hub: selection, resume, mirrors, damage, refusals, no network, and no token anywhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from weights_stand_in import Hub

pytestmark = pytest.mark.slow  # all of them together

TOKEN = "hf_canaryCANARYcanary123"
LINFUSION = "Yuanshi/LinFusion-1-5"
BIG = save({"a": torch.arange(600_000, dtype=torch.float32)})


def linfusion_repository() -> dict[str, bytes]:
    return {
        "config.json": b'{"modules_list": []}',
        "diffusion_pytorch_model.safetensors": BIG,
        "README.md": b"x",
        "pytorch_model.bin": b"evil",
    }


def environment(home: Path, hub: Hub | None, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    url = hub.url if hub else "http://127.0.0.1:9"
    return {
        **kept,
        "HF_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "xdg"),
        "HF_ENDPOINT": url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }


def linfusion(home: Path, hub: Hub | None, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "linfusion_cli", *words]
    done = subprocess.run(
        command, env=environment(home, hub, **more), capture_output=True, text=True, check=False, timeout=120
    )
    for text in (done.stdout, done.stderr):
        assert "canary" not in text.lower()
        assert "Traceback" not in text
    return done


def files(home: Path) -> dict[str, Path]:
    return {path.name: path for path in (home / "hub").rglob("snapshots/*/*")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_only_what_is_needed_is_fetched_and_found_again_offline(home: Path) -> None:
    with Hub({LINFUSION: linfusion_repository()}) as hub:
        done = linfusion(home, hub, "fetch", "--linfusion", LINFUSION, "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert sorted(files(home)) == ["config.json", "diffusion_pytorch_model.safetensors"]
        assert files(home)["diffusion_pytorch_model.safetensors"].read_bytes() == BIG
        assert f"Bearer {TOKEN}" in hub.tokens
        served = len(hub.served)
        assert linfusion(home, hub, "fetch", "--linfusion", LINFUSION).returncode == 0
        assert len(hub.served) == served
    assert linfusion(home, None, "fetch", "--linfusion", LINFUSION, "--offline").returncode == 0
    for path in (path for path in home.rglob("*") if path.is_file()):
        assert b"canary" not in path.read_bytes().lower()


def test_an_interrupted_download_goes_on_where_it_was(home: Path) -> None:
    name = "diffusion_pytorch_model.safetensors"
    large = save({"a": torch.arange(6_000_000, dtype=torch.float32)})  # huggingface_hub writes pieces of 10 MB
    with Hub({LINFUSION: {**linfusion_repository(), name: large}}, stall={name}) as hub:
        command = [sys.executable, "-m", "linfusion_cli", "fetch", "--linfusion", LINFUSION]
        running = subprocess.Popen(command, env=environment(home, hub), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 1000 for path in home.rglob("*.part")) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        kept = sum(path.stat().st_size for path in home.rglob("*.part"))
        assert kept > 1000
        hub.released.set()
        hub.stall.clear()
        assert linfusion(home, hub, "fetch", "--linfusion", LINFUSION).returncode == 0
        assert f"{name} {kept}" in hub.ranges
    assert files(home)[name].read_bytes() == large


def test_what_was_not_published_is_refused_and_removed(home: Path) -> None:
    with Hub({LINFUSION: linfusion_repository()}, corrupt={"diffusion_pytorch_model.safetensors"}) as hub:
        done = linfusion(home, hub, "fetch", "--linfusion", LINFUSION)
        assert done.returncode == 66
        assert "not what was published (SHA-256" in done.stderr
        assert "diffusion_pytorch_model.safetensors" not in files(home)
        hub.corrupt.clear()
        assert linfusion(home, hub, "fetch", "--linfusion", LINFUSION).returncode == 0


def test_a_flipped_bit_on_the_disk_is_found(home: Path) -> None:
    with Hub({LINFUSION: linfusion_repository()}) as hub:
        assert linfusion(home, hub, "fetch", "--linfusion", LINFUSION).returncode == 0
    real = files(home)["diffusion_pytorch_model.safetensors"].resolve()
    real.chmod(0o644)
    real.write_bytes(BIG[:-5] + bytes([BIG[-5] ^ 4]) + BIG[-4:])
    done = linfusion(home, None, "fetch", "--linfusion", LINFUSION, "--offline")
    assert done.returncode == 66
    assert "damaged: its SHA-256 is" in done.stderr
    assert f"rm {real}" in done.stderr


def test_a_mirror_is_tried_with_a_message(home: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'extends = "sd15-4k"\n[model]\nrepositories = ["gone/away", "locked/up", "good/copy"]\n'
        f'linfusion = ["{LINFUSION}"]\n'
    )
    weights = save({"x": torch.zeros(3)})
    model = {"model_index.json": b'{"unet": ["diffusers", "UNet2DConditionModel"]}', "unet/config.json": b"{}"}
    model |= {
        "unet/diffusion_pytorch_model.safetensors": BIG,
        "unet/diffusion_pytorch_model.fp16.safetensors": weights,
        "unet/x.bin": b"evil",
    }
    with Hub({"good/copy": model, LINFUSION: linfusion_repository()}, gated={"locked/up"}) as hub:
        done = linfusion(home, hub, "fetch", str(preset), "--json")
        assert done.returncode == 0, done.stderr
        assert [line.split('"kind": ')[1].split(",")[0] for line in done.stdout.splitlines()] == [
            '"model"',
            '"linfusion"',
        ]
        told = linfusion(home, hub, "fetch", str(preset)).stderr
        assert "gone/away is gone, or private" in told
        assert "locked/up is gated: accept its licence at" in told
    assert "diffusion_pytorch_model.fp16.safetensors" in {path.name for path in home.rglob("snapshots/**/*")}
    assert BIG not in [path.read_bytes() for path in home.rglob("models--good--copy/blobs/*")]


@pytest.mark.parametrize(
    ("state", "says"),
    [("gone", "is gone, or private"), ("gated", "accept its licence"), ("pickles", "only pickles such as a.bin")],
)
def test_what_can_not_be_had_is_explained(home: Path, state: str, says: str) -> None:
    repositories = {"gone": {}, "gated": {}, "pickles": {"an/other": {"a.bin": b"evil"}}}[state]
    with Hub(repositories, gated={"an/other"} if state == "gated" else set()) as hub:
        done = linfusion(home, hub, "fetch", "--lora", "an/other")
    assert done.returncode == 66
    assert says in done.stderr


def test_no_network_and_forbidden_network(home: Path) -> None:
    done = linfusion(home, None, "fetch", "--lora", "an/other")
    assert done.returncode == 66
    assert "can't be reached" in done.stderr
    done = linfusion(home, None, "fetch", "--lora", "an/other", HF_HUB_OFFLINE="1")
    assert done.returncode == 66
    assert "HF_HUB_OFFLINE forbids the network" in done.stderr
    done = linfusion(home, None, "generate", "a lake", "--model", "an/other")
    assert done.returncode == 66
    assert "linfusion fetch --model an/other" in done.stderr
