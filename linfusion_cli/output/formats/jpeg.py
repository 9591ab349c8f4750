"""JPEG, written in strips that threads encode: rows come in, and no more than a few strips are in memory.

Every row of blocks ends with a restart marker (ITU-T T.81, E.1.4), behind which nothing depends on what was before.
So strips of 8 rows of blocks, each encoded as an image of its own with the same tables, join into one image: the bytes
are those that Pillow writes for the whole image with the same settings.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.colour import icc_profile
from linfusion_cli.output.formats.exif_xmp import exif_of, xmp_packet
from linfusion_cli.output.formats.strips import Rows, strips_of

STRIP_ROWS = 64  # eight rows of blocks: the restart markers, which count to eight, go on in the next strip
LAST_RESTART = b"\xff\xd7"
END = b"\xff\xd9"
START_OF_FRAME, START_OF_SCAN = 0xC0, 0xDA
MOST_THREADS = 8


def write_jpeg(sink: Any, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows]) -> None:
    """Writes a baseline JPEG without chroma subsampling (4:4:4) at settings.quality."""
    head, between = b"", b""
    metadata = _metadata(settings, texts)
    for encoded in _encoded(rows, lambda strip, first: _encode(strip, settings, metadata if first else {})):
        header, scan = _split(encoded)
        if not head:
            head = _with_height(header, size.height)
            sink.write(head)
        sink.write(between + scan)
        between = LAST_RESTART
    sink.write(END)


def jpeg_bytes(pixels: Rows, settings: FileSettings, **metadata: Any) -> bytes:
    """One small image as a JPEG of settings.quality, 4:4:4."""
    return _encode(pixels, settings, metadata, restart_rows=0)


def _metadata(settings: FileSettings, texts: Mapping[str, str]) -> dict[str, Any]:
    dpi = {"dpi": (settings.dpi, settings.dpi)} if settings.dpi else {}
    return {
        "exif": exif_of(texts, settings.dpi).tobytes(),
        "xmp": xmp_packet(texts),
        "icc_profile": icc_profile(settings.color_profile),
        **dpi,
    }


def _encoded(rows: Iterator[Rows], encode: Callable[[Rows, bool], bytes]) -> Iterator[bytes]:
    """The strips, encoded by threads, in order."""
    threads = max(2, min(MOST_THREADS, os.cpu_count() or 1))
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads, "jpeg") as pool:
        try:
            for number, strip in enumerate(strips_of(rows, STRIP_ROWS)):
                pending.append(pool.submit(encode, strip, number == 0))
                while len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _encode(strip: Rows, settings: FileSettings, metadata: Mapping[str, Any], restart_rows: int = 1) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    restart = {"restart_marker_rows": restart_rows} if restart_rows else {}
    Image.fromarray(strip).save(buffer, "JPEG", quality=settings.quality, subsampling=0, **restart, **metadata)
    return buffer.getvalue()


def _split(encoded: bytes) -> tuple[bytes, bytes]:
    """A JPEG's segments with the head of its scan, and the scan's data without the end marker."""
    position = 2
    while encoded[position + 1] != START_OF_SCAN:
        position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    return encoded[:position], encoded[position : -len(END)]


def _with_height(header: bytes, height_px: int) -> bytes:
    """The segments with another height in the frame's."""
    position = 2
    while header[position + 1] != START_OF_FRAME:
        position += 2 + int.from_bytes(header[position + 2 : position + 4], "big")
    return header[: position + 5] + height_px.to_bytes(2, "big") + header[position + 7 :]
