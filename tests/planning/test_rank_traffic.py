"""The formula of what ranks send, against the bytes that real passes count."""

from collections.abc import Iterator

import pytest
import torch
from rank_work import unet_pass
from ranks import SIZES, Ranks
from tiny import shape_of

from linfusion_cli.geometry import Size
from linfusion_cli.planning.model_shapes import UNetShape, family_architecture
from linfusion_cli.planning.rank_traffic import unet_traffic
from linfusion_cli.planning.row_split import RowSplit


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    started = Ranks(tmp_path_factory.mktemp("traffic"))
    yield started
    started.stop()


def split_of(shape: UNetShape, height: int, ranks: int) -> RowSplit:
    return RowSplit.of(height, len(shape.channels), ranks)


@pytest.mark.parametrize("family", ["sd15", pytest.param("sdxl", marks=pytest.mark.long)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("height", "width", "dilation", "softmax"), [(36, 5, 1, False), (28, 7, 4, False), (24, 6, 1, True)]
)
def test_real_passes_send_what_the_formula_says(
    ranks: Ranks, family: str, size: int, height: int, width: int, dilation: int, softmax: bool
) -> None:
    arguments = (family, height, width, 4, dilation, torch.float64, softmax)
    counted = [traffic for _, traffic in ranks.run(size, unet_pass, *arguments)]
    shape, latent = shape_of(family), Size(width, height)
    split = split_of(shape, height, size)
    told = unet_traffic(shape, latent, split, number_bytes=8, linear=not softmax, dilation=dilation)
    assert sum(traffic.halos for traffic in counted) == pytest.approx(told.halo_bytes, rel=0.05)
    assert sum(traffic.statistics for traffic in counted) == pytest.approx(told.statistics_bytes, rel=0.05)
    assert sum(traffic.gathered for traffic in counted) == pytest.approx(told.gathered_bytes, rel=0.05)


def test_one_rank_sends_nothing_and_halos_grow_with_the_width_alone() -> None:
    shape = family_architecture("sdxl").unet
    alone = unet_traffic(shape, Size(512, 512), split_of(shape, 512, 1), number_bytes=2, linear=True)
    assert (alone.total_bytes, alone.waits) == (0, 0)
    small, wide, high = (
        unet_traffic(shape, size, split_of(shape, size.height, 4), number_bytes=2, linear=True)
        for size in (Size(512, 512), Size(1024, 512), Size(512, 1024))
    )
    assert wide.halo_bytes == 2 * small.halo_bytes == 2 * high.halo_bytes
    assert small.statistics_bytes == wide.statistics_bytes == high.statistics_bytes
    assert small.seconds(4, 1e9, 0.0) == pytest.approx(small.total_bytes / 4e9)
