"""The options that a user gave: by the preset key that they override, and as the record of the image holds them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from linfusion_cli.config import extras
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.preset_schema import schema
from linfusion_cli.config.presets import Given
from linfusion_cli.config.request import Request
from linfusion_cli.config.request_checks import checked_number
from linfusion_cli.flag_words import dashed

Override = str | int | float | tuple[str | float, ...]


def given_options(request: Request) -> dict[str, Given]:
    """The options that a user gave, by the preset key that they override, with what they imply together."""
    given = {row.preset_key: Given(option=row.key, value=_value(row, request)) for row in all_rows() if row.preset_key}
    if request.linfusion == "none":  # softmax attention everywhere
        softmax = Given(option="linfusion", value="softmax")
        given |= {"model.linfusion": Given(option="linfusion", value=None), "model.attention": softmax}
    if request.base_attention is None:  # the attention of every stage speaks for stage 0, too
        given["model.base_attention"] = given["model.attention"]
    return {key: given[key] for key in schema() if key in given and given[key].value is not None}


def _value(row: OptionRow, request: Request) -> object:
    """What a request says of an option, as a preset would have it; None for nothing."""
    value = getattr(request, row.key)
    if row.preset_takes_list:
        return (value,) if value else None
    if row.preset_offset and value is not None:
        return int(checked_number(row.key, value)) + row.preset_offset
    return None if value == () else value


def overrides(request: Request) -> dict[str, Override]:
    """Every option given that decides pixels and has no entry of its own in the record, as it would be typed again.

    The name of an option in a record is that of its flag. Local files are named without their folders: a record is
    shown to strangers. They stand in the order of presets/defaults.toml, then in the order of --help.
    """
    order = {key: position for position, key in enumerate(schema())}
    rows = [row for row in all_rows() if row.decides_pixels and not row.record_key]
    rows.sort(key=lambda row: order.get(row.preset_key, len(order)))
    found: dict[str, Override] = {}
    for row in rows:
        value = getattr(request, row.key)
        unused = value in (None, (), row.default) or (value == "" and row.preset_takes_list)
        if not unused and not (row.key == "init_image" and request.upscale_image):  # which beats an image to start from
            found[dashed(row.name)] = _recorded(row, value)
    return found


def _recorded(row: OptionRow, value: object) -> Override:
    """A value as the record holds it."""
    if isinstance(value, Path):
        return value.name
    if row.preset_offset:
        return int(cast("int", value)) + row.preset_offset
    if isinstance(value, tuple):
        return tuple(item.name if isinstance(item, Path) else extras.local_names((item,))[0] for item in value)
    if isinstance(value, str) and row.is_location:
        name = extras.local_name(value)
        return (name,) if row.recorded_as_list else name
    return cast("str | int | float", value)
