from __future__ import annotations

from linfusion_cli.config.size_options import SIZE_KEYS
from linfusion_cli.config.size_rows import SIDES, SIZE_ROWS
from linfusion_cli.geometry import NAMED_SIZES, Size, parse_size


def test_every_row_but_the_size_itself_is_a_key_of_one() -> None:
    assert {row.key for row in SIZE_ROWS} == {"size", *SIZE_KEYS}


def test_the_details_say_what_each_name_means() -> None:
    (size,) = (row for row in SIZE_ROWS if row.key == "size")
    said = dict.fromkeys(NAMED_SIZES)
    for part in size.details.rstrip(".").split(", "):
        names, _, sides = part.partition(" is ")
        said |= dict.fromkeys(names.split(" or "), parse_size(sides))
    assert said == {name: Size(*sides) for name, sides in NAMED_SIZES.items()}


def test_a_side_is_a_multiple_of_8() -> None:
    assert 1080 in SIDES
    assert 1081 not in SIDES
