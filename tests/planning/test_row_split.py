"""Every row of every level belongs to one rank, and a level's rows lie under those of the level below."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.geometry import Band
from linfusion_cli.planning.row_split import RowSplit, row_units, useful_ranks

SIZES = {"latent_rows": st.integers(1, 600), "levels": st.integers(1, 4), "ranks": st.integers(1, 40)}


def level_heights(latent_rows: int, levels: int) -> list[int]:
    """From the image in pixels to the coarsest level of the UNet."""
    heights = [latent_rows * 8, latent_rows * 4, latent_rows * 2, latent_rows]
    for _ in range(levels - 1):
        heights.append(-(-heights[-1] // 2))
    return heights


@given(**SIZES)
def test_the_ranks_share_all_rows_in_order(latent_rows: int, levels: int, ranks: int) -> None:
    split = RowSplit.of(latent_rows, levels, ranks)
    for height in level_heights(latent_rows, levels):
        bands = split.all(height)
        assert bands[0].top == 0
        assert bands[-1].bottom == height
        assert all(one.bottom == other.top for one, other in pairwise(bands))


@given(**SIZES)
def test_levels_nest(latent_rows: int, levels: int, ranks: int) -> None:
    split, heights = RowSplit.of(latent_rows, levels, ranks), level_heights(latent_rows, levels)
    for rank in range(ranks):
        for fine, coarse in pairwise(heights):
            above, below = split.own(rank, fine), split.own(rank, coarse)
            assert (below.top, below.bottom) == (-(-above.top // 2), -(-above.bottom // 2))


@given(**SIZES)
def test_shares_are_even_and_nobody_idles_needlessly(latent_rows: int, levels: int, ranks: int) -> None:
    units = row_units(latent_rows, levels)
    split = RowSplit.of(latent_rows, levels, ranks)
    shares = [split.own(rank, units).height for rank in range(ranks)]
    assert max(shares) - min(shares) <= 1
    assert sum(share > 0 for share in shares) == min(ranks, units)


def test_an_example() -> None:
    assert RowSplit.of(100, 4, 3).all(100) == (Band(0, 32), Band(32, 64), Band(64, 100))


@given(asked=st.integers(1, 60), guided=st.booleans(), latent_rows=st.integers(1, 300), levels=st.integers(1, 4))
def test_every_useful_rank_has_rows(asked: int, guided: bool, latent_rows: int, levels: int) -> None:
    useful = useful_ranks(asked, latent_rows, levels, guided=guided)
    assert 1 <= useful <= asked
    group = useful // 2 if guided and useful % 2 == 0 else useful
    assert all(band.height for band in RowSplit.of(latent_rows, levels, group).all(latent_rows))
    assert useful_ranks(useful, latent_rows, levels, guided=guided) == useful


@given(
    latent_rows=st.integers(1, 600),
    levels=st.integers(1, 4),
    shares=st.lists(st.integers(1, 1000), min_size=1, max_size=9).map(tuple),
)
def test_shares_split_all_rows_and_leave_nobody_out(latent_rows: int, levels: int, shares: tuple[int, ...]) -> None:
    split, heights = RowSplit.of(latent_rows, levels, len(shares), shares), level_heights(latent_rows, levels)
    for height in heights:
        bands = split.all(height)
        assert (bands[0].top, bands[-1].bottom) == (0, height)
        assert all(one.bottom == other.top for one, other in pairwise(bands))
    for fine, coarse in pairwise(heights):
        for above, below in zip(split.all(fine), split.all(coarse), strict=True):
            assert (below.top, below.bottom) == (-(-above.top // 2), -(-above.bottom // 2))
    if (units := row_units(latent_rows, levels)) >= len(shares):
        assert all(band.height for band in split.all(units))


@given(**SIZES, share=st.integers(1, 1000))
def test_equal_shares_are_none(latent_rows: int, levels: int, ranks: int, share: int) -> None:
    plain, equal = (RowSplit.of(latent_rows, levels, ranks, shares) for shares in ((), (share,) * ranks))
    assert equal.all(latent_rows) == plain.all(latent_rows)


def test_a_rank_that_is_twice_as_fast_gets_twice_the_rows() -> None:
    assert RowSplit.of(96, 4, 2, (2, 1)).all(96) == (Band(0, 64), Band(64, 96))
    assert RowSplit.of(96, 4, 3, (1000, 1, 1)).all(96) == (Band(0, 80), Band(80, 88), Band(88, 96))
