"""The autoencoder over ranks equals that of one process in both directions; a rank stores its own rows."""

import pytest
import torch
from rank_work import stored_bytes, vae_pass
from ranks import SIZES, Ranks
from tiny import KEEPS

from linfusion_cli.planning.memory_budget import Keep


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(("height", "window"), [(45, 10**6), (90, 60)])
def test_decode(ranks: Ranks, size: int, keep: tuple[Keep, ...], height: int, window: int) -> None:
    _, alone = vae_pass(None, height, 3, 6, keep, window, False)
    parts = ranks.run(size, vae_pass, height, 3, 6, keep, window, False)
    together = torch.cat([rows for _, rows in parts], dim=2)
    assert (together - alone).norm() / alone.norm() < 1e-7  # rows leave the decoder in float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", KEEPS)
def test_encode(ranks: Ranks, size: int, keep: tuple[Keep, ...]) -> None:
    _, alone = vae_pass(None, 29, 3, 6, keep, 10**6, True)
    for _, together in ranks.run(size, vae_pass, 29, 3, 6, keep, 10**6, True):
        assert (together - alone).norm() / alone.norm() < 1e-7


def test_a_rank_stores_its_share(ranks: Ranks) -> None:
    assert ranks.run(4, stored_bytes, 64) == [64 // 4 * 10 * 3 * 4] * 4
    assert ranks.run(3, stored_bytes, 64) == [rows * 10 * 3 * 4 for rows in (16, 24, 24)]
