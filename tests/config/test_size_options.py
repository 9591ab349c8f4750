"""One size of a shape, an area or a side; what contradicts itself is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.size_options import SIZE_KEYS, aspect_ratio, size_of
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size, nearest_size, parse_size

USUAL = Size(3840, 2160)


def size(*, keep_shape: bool = False, **given: object) -> str:
    return str(size_of(given, lambda: USUAL, keep_shape=keep_shape))


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"width": 1024, "height": 512}, "1024x512"),
        ({"width": 1024}, "1024x2160"),
        ({"height": "512"}, "3840x512"),
        ({"width": 1920, "keep_shape": True}, "1920x1080"),
        ({"aspect": "1:1"}, "2880x2880"),
        ({"aspect": "16:9", "width": 1920}, "1920x1080"),
        ({"aspect": "9:16", "height": 1920}, "1080x1920"),
        ({"aspect": "1:2", "long_side": 4096}, "2048x4096"),
        ({"long_side": 7680}, "7680x4320"),
        ({"megapixels": 8.2944}, "3840x2160"),
        ({"aspect": "2:1", "megapixels": 134.217728}, "16384x8192"),
    ],
)
def test_sizes_that_are_meant(options: dict[str, object], made: str) -> None:
    assert size(**options) == made  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "4k", "aspect": "1:1"}, "size and aspect both say how large the image is: give one of them"),
        ({"megapixels": 8, "long_side": 4096}, "megapixels and long_side both say"),
        ({"width": 64, "height": 64, "megapixels": 1}, "width and megapixels both say"),
        ({"width": 64, "height": 64, "aspect": "1:1"}, "say the shape already: leave one out, or aspect"),
        ({"width": 65, "height": 64}, "width 65: write a multiple of 8 from 8 to 1048576. Nearest: 64"),
        ({"megapixels": -1.0}, "Nearest: 0.0001"),
        ({"aspect": "16:0"}, 'aspect "16:0": write W:H'),
        ({"aspect": "wide"}, "for example 16:9"),
        ({"aspect": "-1:1"}, "for example 16:9"),
        ({"aspect": "1000:1", "megapixels": 0.01}, "aspect 1000:1 with megapixels 0.01 is 3162x3 pixels"),
        ({"aspect": "1000000:1", "long_side": 1048576}, "sides are from 8 to 1048576"),
    ],
)
def test_sizes_that_can_not_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        size(**options)  # type: ignore[arg-type]


@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from(["megapixels", "long_side", "width", "height"]),
    st.integers(128, 2000),
)  # fmt: skip
def test_the_shape_is_kept_to_eight_pixels(wide: int, high: int, key: str, eighths: int) -> None:
    value = eighths / 10 if key == "megapixels" else 8 * eighths
    made = size_of({"aspect": f"{wide}:{high}", key: value}, lambda: USUAL)
    assert parse_size(str(made)) == made
    assert abs(made.width - made.height * wide / high) <= 4 * (1 + wide / high)
    if key in ("width", "height"):
        assert getattr(made, key) == value
    if key == "long_side":
        assert max(made.width, made.height) == value


@pytest.mark.parametrize("text", ["16:9", " 16 / 9 ", "16x9", "1.7777778"])
def test_a_shape_is_read(text: str) -> None:
    assert aspect_ratio(text) == pytest.approx(16 / 9)


def test_every_key_is_one_of_a_size() -> None:
    assert nearest_size(USUAL) == USUAL
    assert set(SIZE_KEYS) == {"aspect", "width", "height", "megapixels", "long_side"}
