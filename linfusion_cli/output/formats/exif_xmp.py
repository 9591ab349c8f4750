"""The record of an image as EXIF and XMP, which every format but PNG holds, and the record read back from XMP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

from linfusion_cli.errors import UsageError
from linfusion_cli.files import open_regular
from linfusion_cli.images.own_record import KEYWORD as KEYWORD
from linfusion_cli.images.own_record import RECORD_BYTES, RECORD_END, RECORD_START

PARAMETERS = "parameters"  # the keyword that A1111 writes and others read
NAMESPACE = "https://ns.linfusion.org/record/1.0/"
SOFTWARE = 0x0131
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, INCHES = 0x011A, 0x011B, 0x0128, 2
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
SEGMENT_BYTES = 65000  # of EXIF, and of XMP, in a JPEG
PIECE_BYTES = 1 << 20
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:linfusion="{namespace}">
<xmp:CreatorTool>linfusion</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{parameters}</rdf:li></rdf:Alt></dc:description>
<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{parameters}</rdf:li></rdf:Alt></exif:UserComment>
<linfusion:record>{record}</linfusion:record>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_packet(texts: Mapping[str, str]) -> bytes:
    """An XMP packet in UTF-8: A1111's words as description and comment, and the record as JSON."""
    parameters = escape("".join(char if char not in "\ufffe\uffff" else "\ufffd" for char in texts[PARAMETERS]))
    packet = _PACKET.format(namespace=NAMESPACE, parameters=parameters, record=escape(texts[KEYWORD]))
    return packet.encode("utf-8", "backslashreplace")


def exif_of(texts: Mapping[str, str], dpi: int) -> Any:
    """Pillow's Exif (big-endian): A1111's words as UserComment in UTF-16, as A1111 writes them, and the resolution."""
    from PIL import Image

    exif = Image.Exif()
    exif[SOFTWARE] = "linfusion"
    if dpi:
        exif[X_RESOLUTION], exif[Y_RESOLUTION], exif[RESOLUTION_UNIT] = float(dpi), float(dpi), INCHES
    words = texts[PARAMETERS].encode("utf-16-be", "surrogatepass")
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + words
    return exif


def check_segments(texts: Mapping[str, str]) -> None:
    """Raises UsageError for texts that are longer than a JPEG can hold."""
    for name, length in (("EXIF", len(exif_of(texts, 1).tobytes())), ("XMP", len(xmp_packet(texts)))):
        if length > SEGMENT_BYTES:
            raise UsageError(
                f"the record has {length:,} bytes as {name}; a JPEG holds {SEGMENT_BYTES:,}. Shorten the prompt, or "
                "write a PNG or a TIFF"
            )


def record_text(path: Path) -> str | None:
    """The record's JSON in the XMP packet of any file, None where there is none.

    Packets are made to be found without knowing the format (XMP specification, part 3). Raises OSError, and UsageError
    for a record that is longer than RECORD_BYTES.
    """
    with open_regular(path) as file:
        kept = b""
        while piece := file.read(PIECE_BYTES):
            data = kept + piece
            start = data.find(RECORD_START)
            if start >= 0:
                found = data[start + len(RECORD_START) :] + file.read(RECORD_BYTES)
                return _unescaped(found, path)
            kept = data[-len(RECORD_START) :]
    return None


def _unescaped(data: bytes, path: Path) -> str:
    end = data.find(RECORD_END)
    if end < 0:
        raise UsageError(f"{str(path)!r}: its record is cut short or has more than {RECORD_BYTES:,} bytes")
    return unescape(data[:end].decode("utf-8", "replace"))
