"""The options of the image's size. config/size_options.py makes one size of those that were given."""

from __future__ import annotations

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.value_range import Range
from linfusion_cli.geometry import LARGEST_SIDE_PX, MULTIPLE_PX, NAMED_SIZES

SIDES = Range(MULTIPLE_PX, LARGEST_SIDE_PX, multiple_of=MULTIPLE_PX)
_NAMES = ", ".join(
    f"{' or '.join(name for name, named in NAMED_SIZES.items() if named == sides)} is {sides[0]}x{sides[1]}"
    for sides in dict.fromkeys(NAMED_SIZES.values())
)
SIZE_ROWS = (
    OptionRow(
        key="size",
        kind=str,
        other_names=("resolution",),
        metavar="WxH",
        help="Pixels: WIDTHxHEIGHT in multiples of 8, one number for a square, or a name such as 1080p, 4k or 16k.",
        details=f"{_NAMES}.",
        suggestions=tuple(NAMED_SIZES),
        allowed='"WIDTHxHEIGHT" in pixels, one number for a square, or a name such as "4k"',
        preset_key="output.size",
        upscale_default_from="that of the image, times the scale",
    ),
    OptionRow(
        key="width",
        kind=int,
        names=("width", "W"),
        metavar="PIXELS",
        help="The width, beside a height or an aspect.",
        range=SIDES,
        default_from="that of the preset",
        upscale_default_from="by the shape of the image",
    ),
    OptionRow(
        key="height",
        kind=int,
        names=("height", "H"),
        metavar="PIXELS",
        help="The height, beside a width or an aspect.",
        range=SIDES,
        default_from="that of the preset",
        upscale_default_from="by the shape of the image",
    ),
    OptionRow(
        key="aspect",
        kind=str,
        other_names=("aspect-ratio", "ar"),
        metavar="W:H",
        help="The shape, such as 16:9, beside megapixels, a long side, a width or a height.",
        details="Alone it keeps the preset's area. Sides are rounded to multiples of 8.",
        default_from="that of the preset",
        upscale_default_from="by the shape of the image",
        suggestions=("1:1", "3:2", "4:3", "16:9", "21:9", "2:1", "2:3", "3:4", "9:16"),
    ),
    OptionRow(
        key="megapixels",
        kind=float,
        names=("megapixels", "mp"),
        metavar="N",
        help="The area in millions of pixels, in the shape of the aspect.",
        range=Range(0.0001, 1_000_000),
    ),
    OptionRow(
        key="long_side",
        kind=int,
        metavar="PIXELS",
        help="The longer side, in the shape of the aspect.",
        range=SIDES,
    ),
)
