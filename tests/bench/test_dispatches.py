"""What a pass asks of a device, counted without one: calls, bytes and waits may not grow.

The networks have the layouts of SD-XL and SD-v1.5 with few channels; SD 2.1 and the built-in one have all of theirs.
They lie on the meta device, so a GPU's branches run.
A change that needs more calls says why where it raises a number; one that needs fewer lowers it.
"""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from on_device import OnDevice

from bench.gpu.dispatches import Dispatches
from bench.gpu.models import TINY_POOLED, TOKENS, make_networks, tiny_models
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.dtypes import for_sums
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.models import builtin_folder, family_folder

META = torch.device("meta")
LATENTS = (64, 48)  # height, width
# (family, rows of a band; 0: the whole image at once) -> calls, megabytes read and written
PASSES = {
    ("sdxl", 0): (1324, 69),
    ("sdxl", 64): (2925, 118),
    ("sdxl", 16): (3998, 120),
    ("sd15", 0): (1336, 135),
    ("sd15", 16): (5687, 200),
    ("sd21", 0): (1336, 5007),
    ("sd21", 16): (5687, 7208),
    ("builtin", 0): (615, 321),
    ("builtin", 16): (3049, 496),
}
DECODES = {64: (1429, 196), 16: (3481, 197)}  # rows of a band in pixels -> the same of the autoencoder


def no_autocast(*arguments: Any, **more: Any) -> Any:
    """torch has no autocast for the meta device."""
    return nullcontext()


def networks(family: str, folder: Path) -> tuple[Any, Any]:
    """UNet with linear attention, and the autoencoder, in half precision and in the layout of the loader."""
    full_size = {"builtin": lambda: builtin_folder("builtin:landscape"), "sd21": lambda: family_folder("sd21")}
    shapes = full_size[family]() if family in full_size else tiny_models(family, "cpu", folder)[0].folder
    layout = "sdxl" if family == "sdxl" else "sd15"  # of the linear attentions
    unet, linfusion, vae = make_networks(shapes, layout, "meta", torch.float16)
    linfusion.mount(unet)
    return unet.to(memory_format=torch.channels_last), vae.to(memory_format=torch.channels_last)


def counted_pass(family: str, rows: int, folder: Path) -> Dispatches:
    unet, _ = networks(family, folder)

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=torch.float16, device=META)

    text = empty(1, TOKENS, int(unet.config.cross_attention_dim))
    added = {"text_embeds": empty(1, TINY_POOLED), "time_ids": empty(1, 6)} if family == "sdxl" else None
    arguments = (empty(1, 4, *LATENTS), torch.tensor(500, device=META), text, added)
    store, weights = ActivationStore.unlimited(META), Weights(META, resident=True)
    run = BandedUNet(unet, rows, store, weights) if rows else PlainUNet(unet)
    with mock.patch.object(torch, "autocast", no_autocast), torch.inference_mode(), Dispatches() as counted:
        run(*arguments)
    return counted


def megabytes(counted: Dispatches) -> float:
    return (counted.read_bytes + counted.written_bytes) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize(("family", "rows"), PASSES)
def test_a_pass_of_the_unet(family: str, rows: int, tmp_path: Path) -> None:
    counted = counted_pass(family, rows, tmp_path)
    calls, most = PASSES[family, rows]
    assert counted.waits == 0
    assert counted.total <= calls, counted.calls.most_common(8)
    assert megabytes(counted) <= most


@pytest.mark.slow
@pytest.mark.parametrize("rows", DECODES)
def test_a_decode(rows: int, tmp_path: Path) -> None:
    _, vae = networks("sdxl", tmp_path)
    store = ActivationStore.unlimited(META)
    sweeper = Sweeper(vae, rows, ("sums", "all", "all", "all"), 10**6, store, lambda _: None)
    latents = torch.empty(1, 4, 32, 24, device=META)
    with mock.patch.object(torch, "autocast", no_autocast), Dispatches() as counted:
        for _ in sweeper.decode(latents):
            pass
    calls, most = DECODES[rows]
    assert counted.waits == 0
    assert counted.total <= calls, counted.calls.most_common(8)
    assert megabytes(counted) <= most


@pytest.mark.slow
def test_where_sums_are_float32_nothing_is_wider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPUs have no float64."""
    for module in [module for module in sys.modules.values() if vars(module).get("for_sums") is for_sums]:
        monkeypatch.setattr(module, "for_sums", lambda values: torch.float32)
    with OnDevice() as seen:
        counted_pass("sdxl", 16, tmp_path)
        test_a_decode(16, tmp_path)
    assert {torch.float16, torch.float32} <= seen.dtypes
    assert torch.float64 not in seen.dtypes


@pytest.mark.slow
def test_the_counter_sees_a_call_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted_pass("sdxl", 0, tmp_path)
    run = PlainUNet.__call__

    def slower(self: PlainUNet, sample: torch.Tensor, *more: Any) -> torch.Tensor:
        return run(self, sample * 1, *more)

    monkeypatch.setattr(PlainUNet, "__call__", slower)
    assert counted_pass("sdxl", 0, tmp_path).total == before.total + 1
