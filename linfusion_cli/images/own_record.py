"""Which model drew an image, as the record says that linfusion stores in its images."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import unescape

from linfusion_cli.json_files import JsonError, parse_json

KEYWORD = "linfusion"  # of the record as JSON: a PNG's text, and the prefix of its element in XMP
RECORD_START, RECORD_END = b"<linfusion:record>", b"</linfusion:record>"
RECORD_BYTES = 1 << 20  # of a record that is read


def drawn_by(image: Any) -> tuple[str, ...]:
    """The locations of the model that drew an image of Pillow's from words alone; () if no record says so.

    An image that was made of a user's own, or that another program has written, has none.
    """
    try:
        values = parse_json(_text(image), "a record", RECORD_BYTES)
    except JsonError:
        return ()
    if values.get("upscaled") or values.get("images"):
        return ()
    match values:
        case {"settings": {"model": {"repositories": list(locations)}}}:
            return tuple(map(str, locations))
    return ()


def _text(image: Any) -> str:
    """The record's JSON; "" if there is none."""
    found = image.info.get(KEYWORD)
    if isinstance(found, str):
        return found
    packet = image.info.get("xmp")
    data = packet.encode() if isinstance(packet, str) else packet if isinstance(packet, bytes) else b""
    return unescape(data.partition(RECORD_START)[2].partition(RECORD_END)[0].decode("utf-8", "replace"))
