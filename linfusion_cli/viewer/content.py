"""Every file of the page, by its path: fixed names and numbers, so that no path leads out of what is shown."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linfusion_cli.errors import LinfusionError
from linfusion_cli.files import read_regular
from linfusion_cli.viewer.memory_plot import LOG_BYTES, history_of_log, history_of_record, memory_svg
from linfusion_cli.viewer.pyramid import Pyramid, Tile, level_count, open_pyramid, overview_of

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
PAGE_FILES = ("index.html", "viewer.css", "viewer.js", "openseadragon.min.js")
PREVIEW_BYTES = 16 << 20
STAGE = re.compile(r"stage-(\d{1,3})-(\d{1,6}x\d{1,6})\.(?:png|jpe?g|tiff?|webp|avif|jxl)")
TILE = re.compile(r"tiles/(\d{1,2})/(\d{1,6})_(\d{1,6})\.(jpg|jpeg|png)")
STAGE_FILE = re.compile(r"stages/(\d{1,3})\.jpg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a user wants to see. record: of the image, with the command that repeats it; None for none."""

    image: Path
    stages_folder: Path | None = None
    memory_log: Path | None = None
    preview: Path | None = None
    record: Callable[[], Mapping[str, Any] | None] = lambda: None


@dataclass(slots=True)
class Content:
    """The page of one image. Its tiles are made in the background, once the image is there."""

    shown: Shown
    cache: Path
    live: bool = True  # what is shown may change: the page asks again
    pyramid: Pyramid | None = None
    error: str = ""
    _record: Mapping[str, Any] | None = None
    _stages: dict[tuple[Path, int, int], bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> threading.Thread | None:
        """Opens the image; returns the thread that makes its tiles, running. Raises UsageError and OutputError."""
        self.pyramid, thread = open_pyramid(self.shown.image, self.cache)
        self._record = self.shown.record()
        if thread is not None:
            thread.start()
        return thread

    def find(self, path: str) -> tuple[bytes, str] | None:
        """The bytes and the type of a file of the page; None for any other path."""
        name = path or "index.html"
        if name in PAGE_FILES:
            return (STATIC / name).read_bytes(), TYPES[Path(name).suffix]
        if match := TILE.fullmatch(name):
            found = self._tile((int(match[1]), int(match[2]), int(match[3])), match[4])
            return None if found is None else (found, TYPES[f".{match[4]}"])
        if match := STAGE_FILE.fullmatch(name):
            stage = self._stage(int(match[1]))
            return None if stage is None else (stage, TYPES[".jpg"])
        made = {
            "data.js": self._script,
            "status.json": self._status,
            "overview.jpg": self._overview,
            "memory.svg": self._memory,
            "preview.jpg": self._preview,
        }.get(name)
        data = made() if made is not None else None
        return None if data is None else (data, TYPES[Path(name).suffix])

    def state(self) -> dict[str, Any]:
        """What the page knows. Looks for the image if it was not there yet."""
        with self._lock:
            if self.pyramid is None and not self.error and self.shown.image.exists():
                try:
                    self.open()
                except LinfusionError as error:
                    self.error = str(error)
        pyramid = self.pyramid
        return {
            "name": self.shown.image.name,
            "live": self.live,
            "error": self.error or (pyramid.error if pyramid else ""),
            "image": None if pyramid is None else _image_state(pyramid),
            "record": self._record,
            "memory": _changed(self.shown.memory_log) or (1 if self._memory() else 0),
            "preview": None if self.shown.preview is None else _changed(self.shown.preview),
            "stages": [{"index": index, "size": size} for index, size, _ in self._stage_files()],
        }

    def names(self) -> Iterator[str]:
        """Every file of a page that is finished, for an export."""
        yield from (*PAGE_FILES, "data.js", "overview.jpg")
        if self._memory() is not None:
            yield "memory.svg"
        yield from (f"stages/{index}.jpg" for index, _, _ in self._stage_files())
        if (pyramid := self.pyramid) is not None:
            for level in range(level_count(pyramid.size)):
                for tile in sorted((pyramid.folder / str(level)).glob(f"*.{pyramid.ending}")):
                    yield f"tiles/{level}/{tile.name}"

    def _tile(self, tile: Tile, ending: str) -> bytes | None:
        pyramid = self.pyramid
        return None if pyramid is None or pyramid.ending != ending else pyramid.tile(tile)

    def _script(self) -> bytes:
        text = json.dumps(self.state(), ensure_ascii=True).replace("<", "\\u003c")
        return f"window.LINFUSION = {text};\n".encode()

    def _status(self) -> bytes:
        return json.dumps(self.state(), ensure_ascii=True).encode()

    def _overview(self) -> bytes | None:
        return None if self.pyramid is None else self.pyramid.overview_jpeg()

    def _preview(self) -> bytes | None:
        path = self.shown.preview
        with suppress(OSError):
            return None if path is None else read_regular(path, PREVIEW_BYTES)
        return None

    def _memory(self) -> bytes | None:
        """The plot of the log, else of the phases in the record."""
        with suppress(OSError, ValueError):
            if self.shown.memory_log is not None:
                text = read_regular(self.shown.memory_log, LOG_BYTES).decode("utf-8", "replace")
                return memory_svg(history_of_log(text), "Memory").encode()
            if self._record is not None:
                return memory_svg(history_of_record(self._record["record"]), "Memory, the peak of each phase").encode()
        return None

    def _stage_files(self) -> list[tuple[int, str, Path]]:
        folder = self.shown.stages_folder
        if folder is None or not folder.is_dir():
            return []
        found = [(match, path) for path in folder.iterdir() if (match := STAGE.fullmatch(path.name)) is not None]
        return sorted((int(match[1]), match[2], path) for match, path in found)

    def _stage(self, index: int) -> bytes | None:
        """The image of a stage, small; each is read once as long as its file stays the same."""
        path = next((path for number, _, path in self._stage_files() if number == index), None)
        if path is None:
            return None
        try:
            stat = path.stat()  # the clock of a file may stand still for milliseconds: its size tells too
            key = (path, stat.st_mtime_ns, stat.st_size)
            if key not in self._stages:
                self._stages[key] = _jpeg(overview_of(path))
        except (LinfusionError, OSError):
            return None
        return self._stages[key]


def _image_state(pyramid: Pyramid) -> dict[str, Any]:
    return {
        "width": pyramid.size.width,
        "height": pyramid.size.height,
        "ready": pyramid.ready,
        "rows": pyramid.rows_read,
        "tile": pyramid.tile_px,
        "overlap": pyramid.overlap_px,
        "ending": pyramid.ending,
        "levels": level_count(pyramid.size),
        "note": pyramid.note,
    }


def _changed(path: Path | None) -> int:
    """A number that changes with the file; 0 while there is none."""
    with suppress(OSError):
        return 0 if path is None else path.stat().st_mtime_ns // 1_000_000  # JavaScript's numbers have 53 bits
    return 0


def _jpeg(pixels: Any) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()
