"""The formula of what ranks send in the autoencoder, against the bytes that real decodes and encodes count."""

import pytest
from lone_rank import vae_traffic

from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import Keep
from linfusion_cli.planning.model_shapes import VaeShape
from linfusion_cli.planning.rank_traffic import RankTraffic
from linfusion_cli.planning.row_split import RowSplit
from linfusion_cli.planning.vae_traffic import VaeTraffic

pytestmark = pytest.mark.slow  # all of them together

SHAPE = VaeShape((8, 12, 16), 1, True, 0)  # of tiny_vae()
UNET_LEVELS = 4
KEEPS: list[tuple[Keep, ...]] = [("all", "all", "all"), ("sums", "sums", "all"), ("nothing", "nothing", "sums")]


def told(
    height: int, width: int, size: int, keep: tuple[Keep, ...], window: int, *, encode: bool, source: int = 0
) -> RankTraffic:
    """For latents of that size, numbers of 8 bytes."""
    split = RowSplit.of(height, UNET_LEVELS, size)
    traffic = VaeTraffic(SHAPE, Size(4 * width, 4 * height), split, 8, keep, window)
    if source:
        return traffic.encode(Size(2 * width, source), RowSplit.of(source // 4, UNET_LEVELS, size))
    return traffic.encode() if encode else traffic.decode()


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(("size", "window"), [(2, 100), (3, 10**6), (7, 100)])
def test_real_passes_send_what_the_formula_says(keep: tuple[Keep, ...], size: int, window: int, encode: bool) -> None:
    counted = vae_traffic(size, 62, 5, 8, keep, window, encode)
    formula = told(62, 5, size, keep, window, encode=encode)
    assert counted.halos == pytest.approx(formula.halo_bytes, rel=0.05)
    assert counted.statistics == pytest.approx(formula.statistics_bytes, rel=0.05)
    assert counted.gathered == pytest.approx(formula.gathered_bytes, rel=0.05)


def test_one_rank_sends_nothing_and_rows_grow_with_the_width_alone() -> None:
    alone = told(64, 64, 1, KEEPS[0], 100, encode=False)
    assert alone.total_bytes == 0
    small, wide, high = (
        told(height, width, 4, KEEPS[1], 0, encode=False) for height, width in ((256, 64), (256, 128), (512, 64))
    )
    assert wide.halo_bytes == 2 * small.halo_bytes == 2 * high.halo_bytes


def test_an_image_that_is_enlarged_adds_the_rows_around_the_borders() -> None:
    whole = told(64, 64, 3, KEEPS[1], 0, encode=True)
    enlarged = told(64, 64, 3, KEEPS[1], 0, encode=True, source=128)
    assert whole.halo_bytes < enlarged.halo_bytes < 1.5 * whole.halo_bytes
