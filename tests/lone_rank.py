"""One rank without the others, in this process: what it stores and sends does not depend on what it receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from rank_work import WEIGHTS, store_of, vae_pass
from tiny import mounted, tiny_vae
from torch import Tensor

from linfusion_cli.engine.distributed.process_group import Group, Parcel, Traffic
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.planning.memory_budget import Keep


class LoneGroup(Group):
    """A group whose other members answer at once, with what this one has, or with zeros."""

    def exchange(self, sent: Sequence[Parcel], received: Sequence[Parcel]) -> None:
        for parcel in received:
            parcel.tensor.zero_()

    def all_gathered(self, own: Tensor) -> list[Tensor]:
        return [own] * self.size

    def all_summed(self, own: Tensor) -> Tensor:
        return own * self.size

    def all_objects(self, own: object) -> list[Any]:
        return [own] * self.size


def lone(size: int) -> list[LoneGroup]:
    """Every rank of a group, each without the others."""
    first = LoneGroup(0, tuple(range(size)), torch.device("cpu"), None)
    return [replace(first, rank=rank, traffic=Traffic()) for rank in range(size)]


def vae_traffic(size: int, *arguments: Any) -> Traffic:
    """The bytes that all ranks send in a vae_pass()."""
    groups = lone(size)
    for group in groups:
        vae_pass(group, *arguments)
    return Traffic(
        halos=sum(group.traffic.halos for group in groups),
        statistics=sum(group.traffic.statistics for group in groups),
        gathered=sum(group.traffic.gathered for group in groups),
    )


def stored_peaks(size: int, height: int, width: int, keep: tuple[Keep, ...]) -> tuple[float, float]:
    """The most that a rank's store holds in a pass of the tiny UNet of SD 1.5, and in a decode; in float64."""
    unet, tensors = mounted("sd15")
    text, latents = tensors["encoder_hidden_states"][:1].double(), torch.randn(1, 4, height, width).double()
    peaks: list[tuple[float, float]] = []
    for group in lone(size):
        store = store_of(group, height, len(unet.config.block_out_channels))
        with torch.inference_mode():
            BandedUNet(unet, 4, store, WEIGHTS)(latents, torch.tensor(3), text, {}, 1)
        of_vae = store_of(group, height, 4)
        for _ in Sweeper(tiny_vae(attention=True).double(), 8, keep, 100, of_vae, lambda _: None).decode(latents):
            pass
        peaks.append((store.usage.peak_bytes["device"], of_vae.usage.peak_bytes["device"]))
    return max(unet for unet, _ in peaks), max(vae for _, vae in peaks)
