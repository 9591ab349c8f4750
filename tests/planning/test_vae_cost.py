"""The plan's arithmetic of an autoencoder is what the engine does: the same slabs in the same order, to the byte."""

from pathlib import Path

import pytest
import torch
from budgets import same_budget, same_budget_and_buffers
from diffusers import AutoencoderKL
from late import Late

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import CostCounter, Keep, StoreBudget
from linfusion_cli.planning.model_shapes import VaeShape
from linfusion_cli.planning.vae_cost import vae_cost

CPU = torch.device("cpu")
KEEPS: list[tuple[Keep, ...]] = [
    ("all",) * 3,
    ("sums", "all", "all"),
    ("sums",) * 3,
    ("nothing", "all", "sums"),
    ("nothing", "nothing", "all"),
]


def small_vae(*, attention: bool) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 12, 20),
        layers_per_block=2,
        norm_num_groups=4,
        mid_block_add_attention=attention,
    ).eval()


@pytest.mark.slow
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("store_bytes", [0, 20_000, 10**9])
@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("attention", [False, True])
def test_the_autoencoder_takes_the_room_that_was_planned(
    attention: bool, keep: tuple[Keep, ...], store_bytes: int, encode: bool, tmp_path: Path
) -> None:
    vae = small_vae(attention=attention)
    store_budget, size = StoreBudget(store_bytes, 0, tmp_path), Size(24, 40)
    store = ActivationStore(CPU, store_budget)
    sweeper = Sweeper(vae, 7, keep, 100, store, lambda _: None)
    if encode:
        sweeper.encode(Parked.of(torch.zeros(1, 3, size.height, size.width)))
    else:
        list(sweeper.decode(torch.zeros(1, 4, size.height // 4, size.width // 4)))
    same_budget(
        store,
        vae_cost(
            VaeShape((8, 12, 20), 2, attention, 0), size, 7, keep, 100, CostCounter(store_budget, 4), encode=encode
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("attention", [False, True])
@torch.inference_mode()
def test_the_buffers_of_the_autoencoder_are_planned(attention: bool, keep: tuple[Keep, ...], tmp_path: Path) -> None:
    store_budget, size = StoreBudget(0, 0, tmp_path, overlapped=True), Size(24, 96)
    store = ActivationStore(CPU, store_budget, streams=Late())
    list(
        Sweeper(small_vae(attention=attention), 16, keep, 100, store, lambda _: None).decode(
            torch.zeros(1, 4, size.height // 4, size.width // 4)
        )
    )
    same_budget_and_buffers(
        store,
        vae_cost(
            VaeShape((8, 12, 20), 2, attention, 0), size, 16, keep, 100, CostCounter(store_budget, 4), encode=False
        ),
    )
