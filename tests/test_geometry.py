"""Sizes are read strictly, and stages grow from base to target without a jump or a useless step."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import NAMED_SIZES, SHAPES, Size, bands, base_size, nearest_size, parse_size, stage_sizes

eighths = st.integers(1, 4096).map(lambda n: 8 * n)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4k", (3840, 2160)),
        ("8K", (7680, 4320)),
        (" 16k ", (15360, 8640)),
        ("16384x8192", (16384, 8192)),
        ("64 X 8", (64, 8)),
        ("4096", (4096, 4096)),
        (" 64 px ", (64, 64)),
        ("64px x 32px", (64, 32)),
        ("64*32", (64, 32)),
        ("1080p", (1920, 1080)),
        ("UHD", (3840, 2160)),
        ("2k", (2560, 1440)),
    ],
)
def test_sizes_that_can_be_read(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == Size(*size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x0", "Nearest: 8x8"),
        ("-64x64", "Nearest: 8x64"),
        ("1000x1001", "Nearest: 1000x1000"),
        ("4095x4097", "Nearest: 4096x4096"),
        ("9999999x8", "1048576"),
        ("big", "4k, 5k, 6k, 8k, 16k"),
        ("1081p", 'Did you mean "1080p"'),
        ("100", "Nearest: 104x104"),
        ("16:9", 'that is a shape; give it as aspect="16:9"'),
        ("1e3x5", "WIDTHxHEIGHT"),
    ],
)
def test_sizes_that_can_not(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_size(text)


@given(st.integers(-5, 10**7), st.integers(-5, 10**7))
def test_the_nearest_size_is_always_valid(width: int, height: int) -> None:
    nearest = nearest_size(Size(width, height))
    assert parse_size(str(nearest)) == nearest


@given(eighths, eighths, st.sampled_from([128, 512, 768, 1024]), st.sampled_from([1.5, 2.0, 3.0]))
def test_stages_grow_to_the_target(width: int, height: int, train_side: int, factor: float) -> None:
    target = Size(width, height)
    sizes = stage_sizes(target, train_side**2, factor)
    assert sizes[-1] == target
    assert sizes[0] == base_size(target, train_side**2)
    assert all(size.width % 8 == size.height % 8 == 0 and min(size.width, size.height) >= 8 for size in sizes)
    for small, large in itertools.pairwise(sizes):
        assert small.width <= large.width
        assert small.height <= large.height
        assert small != large
    narrow = min(target.width, target.height) * 64 < max(target.width, target.height)
    if len(sizes) > 1 and not narrow:
        growth = [max(b.width / a.width, b.height / a.height) for a, b in itertools.pairwise(sizes)]
        assert max(growth) <= factor * 1.25 + 0.5


def test_powers_of_two_double_from_the_models_own() -> None:
    assert [str(size) for size in stage_sizes(Size(4096, 4096), 512 * 512)] == [
        "512x512",
        "1024x1024",
        "2048x2048",
        "4096x4096",
    ]


def test_the_papers_size_grows_evenly() -> None:
    assert [str(size) for size in stage_sizes(Size(16384, 8192), 1024 * 1024)] == [
        "1448x728",
        "2656x1336",
        "4872x2440",
        "8936x4472",
        "16384x8192",
    ]


@given(eighths, eighths, st.sampled_from([128, 512, 1024]))
def test_stages_before_the_last_are_together_smaller_than_it(width: int, height: int, train_side: int) -> None:
    sizes = stage_sizes(Size(width, height), train_side**2)
    if len(sizes) > 2 and min(width, height) >= 256:
        assert sum(size.area for size in sizes[1:-1]) < 0.6 * sizes[-1].area


@pytest.mark.parametrize("size", sorted(NAMED_SIZES))
def test_base_keeps_the_aspect(size: str) -> None:
    target = parse_size(size)
    base = base_size(target, 768 * 768)
    assert abs(base.width / base.height - target.width / target.height) < 0.02
    assert abs(base.area - 768 * 768) < 20_000


def test_a_target_below_the_training_size_is_one_stage() -> None:
    assert stage_sizes(Size(256, 128), 512 * 512) == (Size(256, 128),)


@given(st.integers(1, 300), st.integers(1, 400))
def test_bands_cover_every_row_once(height: int, band_height: int) -> None:
    rows = [row for band in bands(height, band_height) for row in range(band.top, band.bottom)]
    assert rows == list(range(height))


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_a_shape_in_words_is_answered_with_the_aspect(name: str, shape: str) -> None:
    with pytest.raises(UsageError, match=rf'^size "{name.title()}": that is a shape; give it as aspect="{shape}"$'):
        parse_size(name.title())
