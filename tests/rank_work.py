"""What ranks compute in tests: each function runs in every process of a group."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import golden_unet, load_golden
from tiny import DATA, mounted, tiny_vae
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.distributed.guidance_split import GuidanceSplit
from linfusion_cli.engine.distributed.process_group import Group, Parcel, Traffic
from linfusion_cli.engine.distributed.ranks import Ranks
from linfusion_cli.engine.distributed.shared_store import SharedStore
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.errors import LinfusionError
from linfusion_cli.events import Event, PhaseStarted, Progressed
from linfusion_cli.planning.memory_budget import Keep
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.row_split import RowSplit
from linfusion_cli.system.device import find_machine

WEIGHTS = Weights(torch.device("cpu"), resident=True)
HALVES: dict[int, tuple[Group, Group]] = {}  # of the groups of even size


def ranks_of(group: Group, shares: tuple[int, ...] = ()) -> Ranks:
    """As Ranks.of, for a group that is not all processes."""
    halves = HALVES.get(group.size)
    return Ranks(group, GuidanceSplit(group, halves) if halves else None, shares)


def store_of(group: Group | None, latent_rows: int, levels: int, shares: tuple[int, ...] = ()) -> ActivationStore:
    """A store without limits; without a group, that of one process."""
    alone = ActivationStore.unlimited(torch.device("cpu"))
    return SharedStore(alone, group, RowSplit.of(latent_rows, levels, group.size, shares), shares) if group else alone


def unet_pass(
    group: Group | None,
    family: str,
    height: int,
    width: int,
    band_rows: int,
    dilation: int = 1,
    dtype: torch.dtype = torch.float64,
    softmax: bool = False,
    shares: tuple[int, ...] = (),
) -> tuple[Tensor, Traffic]:
    """One pass of a tiny UNet, and the bytes that this process sent. shares: of the rows, for the ranks of a group."""
    unet, tensors = mounted(family)
    if softmax or dtype != torch.float64:
        tensors, config = load_golden(DATA / f"unet_{family}.safetensors")
        unet = golden_unet(tensors, config)
        if not softmax:
            LinFusion.load(DATA / f"linfusion_{family}").mount(unet)
        unet = unet.to(dtype)
    torch.manual_seed(height * width)
    sample = torch.randn(1, 4, height, width, dtype=dtype)
    text = tensors["encoder_hidden_states"][:1].to(dtype)
    added = {name: tensors[name][:1].to(dtype) for name in ("text_embeds", "time_ids") if name in tensors}
    store = store_of(group, height, len(unet.config.block_out_channels), shares)
    with torch.inference_mode():
        return BandedUNet(unet, band_rows, store, WEIGHTS)(sample, torch.tensor(321), text, added, dilation), (
            group.traffic if group else Traffic()
        )


def vae_pass(
    group: Group | None, height: int, width: int, band_px: int, keep: tuple[Keep, ...], window: int, encode: bool
) -> tuple[int, Tensor]:
    """A tiny VAE in float64: the first row and this process's rows of the image, or 0 and the whole latents."""
    vae = tiny_vae(attention=True).double()
    torch.manual_seed(height * width)
    store = store_of(group, height, 4)
    sweeper = Sweeper(vae, band_px, keep, window, store, lambda _: None)
    if encode:
        return 0, sweeper.encode(Parked.of(torch.rand(1, 3, 4 * height, 4 * width, dtype=torch.float64) * 2 - 1))
    bands = list(sweeper.decode(torch.randn(1, 4, height, width, dtype=torch.float64)))
    if not bands:
        return 0, torch.empty(1, 3, 0, 4 * width)
    return bands[0][0].top, torch.cat([rows for _, rows in bands], dim=2)


def ring(group: Group) -> tuple[list[float], list[float], float, list[int]]:
    """Every primitive once: neighbours' numbers, all numbers, their sum, all objects; bytes are counted elsewhere."""
    own = torch.full((3,), float(group.rank))
    after, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    got = torch.empty(3)
    group.exchange([Parcel(after, own)], [Parcel(before, got)])
    parts = [float(part[0]) for part in group.all_gathered(own)]
    return got.tolist(), parts, float(group.all_summed(own)[0]), group.all_objects(group.rank)


def halves(group: Group) -> tuple[int, int]:
    """The first member and the size of this process's half."""
    half = next(half for half in group.halves() if half.rank >= 0)
    return half.members[0], half.size


def stored_bytes(group: Group, height: int) -> float:
    """What one slab of an image of that height takes of the store of this rank."""
    store = store_of(group, height, 4)
    slab = store.slab((height, 10, 3), torch.float32)
    held = store.usage.held_bytes["device"]
    del slab
    assert store.usage.held_bytes["device"] == 0
    return held


class Kept(dict[str, bytes]):
    """Checkpoints in memory."""

    def find(self, name: str) -> bytes:
        return self.get(name, b"")

    def keep(self, name: str, data: bytes) -> None:
        self[name] = data

    def due(self, *, finished: bool) -> bool:
        return True


class StoppedError(Exception):
    """A run that was interrupted on purpose."""


def job_of(preset: Path, size: str, between: str) -> dict[str, Any]:
    """The fields of a request."""
    return {"prompt": "a lake", "preset": str(preset), "size": size, "seed": 3, "between": between}


def plan_of(job: dict[str, Any], ranks: int = 1) -> Plan:
    values = {key: value for key, value in job.items() if key != "between"}
    resolved = resolve(Request(output=Path("x.png"), **values))
    plan = make_plan(resolved, find_machine("cpu"), ranks=ranks)
    return replace(plan, join=replace(plan.join, between=job["between"]))


def make_image(
    group: Group | None, job: dict[str, Any], kept: dict[str, bytes], steps: int = 10**6
) -> tuple[np.ndarray[Any, Any], dict[str, bytes]]:
    """The final image's rows on the first rank, none on the others, and what was kept. It stops after `steps` steps."""
    plan = plan_of(job, group.size if group else 1)
    ranks = ranks_of(group, plan.rank_shares) if group else None
    keeper, done, phase = Kept(kept), 0, ""

    def see(event: Event) -> None:
        nonlocal done, phase
        if isinstance(event, PhaseStarted):
            phase = event.name
        elif isinstance(event, Progressed) and phase == "denoise":
            done += 1
            if done >= steps:
                raise StoppedError

    rows: list[np.ndarray[Any, Any]] = [np.empty((0, 1, 3), dtype=np.uint8)]
    try:
        for image in images(plan, see, keeper, None, ranks):
            rows = list(image.rows) if image.final else rows
    except StoppedError:
        pass
    return np.concatenate(rows) if rows else np.empty((0, 1, 3)), dict(keeper)


def refused(group: Group, job: dict[str, Any], change: str) -> str:
    """The error of a run, "" for none."""
    ranks, plan = ranks_of(group), plan_of(job, group.size)
    if change and group.rank == 1:
        plan = replace(plan, conditioning=replace(plan.conditioning, prompt="another"))
    try:
        for image in images(plan, lambda _: None, None, None, ranks):
            list(image.rows)
    except LinfusionError as error:
        return str(error)
    return ""


def both_predictions(group: Group) -> tuple[str, tuple[float, float], int]:
    """Which prediction this process computed, a value of both, and the bytes that it sent."""
    called: list[str] = []

    def prediction(name: str, value: float) -> Tensor:
        called.append(name)
        return torch.full((1, 4, 5, 3), value)

    split = ranks_of(group).split
    assert split is not None
    before = group.traffic.total
    negative, prompt = split.both(partial(prediction, "negative", 1.0), partial(prediction, "prompt", 2.0))
    (name,) = called
    return name, (float(negative.mean()), float(prompt.mean())), group.traffic.total - before


def first_prediction(group: Group) -> tuple[int, float, int]:
    """How often this process computed the prediction, a value of it, and the bytes that it sent."""
    called: list[Tensor] = []

    def prediction() -> Tensor:
        called.append(torch.full((1, 4, 5, 3), 2.0).to(memory_format=torch.channels_last))
        return called[0]

    split = ranks_of(group).split
    assert split is not None
    before = group.traffic.total
    result = split.first(prediction, torch.empty(1, 4, 5, 3, dtype=torch.float16))
    return len(called), float(result.mean()), group.traffic.total - before
