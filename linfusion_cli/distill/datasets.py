"""Reads captioned images from a folder, webdataset tars, parquet files, or the procedural scenes."""

from __future__ import annotations

import io
import os
import random
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from linfusion_cli.distill.batches import UNREADABLE, Source
from linfusion_cli.distill.data_location import ALLOWED, existing_path
from linfusion_cli.errors import UsageError
from linfusion_cli.json_files import parse_json
from linfusion_cli.platform_files import read_at

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
EPOCH_SCENES = 1_000_000


def open_source(location: str, size_px: int, seed: int) -> Source:
    """Opens a folder, a .tar or .parquet file, or the procedural scenes.

    size_px: side of the squares in which scenes are rendered; files keep their size
    seed:    of the scenes; files don't use it
    Raises UsageError if the location is missing, is of another kind or has no captioned image, and for parquet files
    without pyarrow.
    """
    path = existing_path(location)
    if path is None:
        return Scenes(size_px, seed)
    source = _open(path)
    if not sum(source.blocks):
        lines = "".join(f"\n  {line}" for line in source.skipped[:5])
        raise UsageError(
            f'"{location}": no image with a caption could be read. Allowed: {ALLOWED}{lines}', parameter="data"
        )
    return source


def _open(path: Path) -> Source:
    files = [path] if path.is_file() else sorted(path.iterdir())
    tars, parquets = ([file for file in files if file.suffix == suffix] for suffix in (".tar", ".parquet"))
    if tars:
        return TarShards(tars)
    if parquets:
        return ParquetShards(parquets)
    if path.is_file():
        raise UsageError(f'"{path}": neither a .tar nor a .parquet file. Allowed: {ALLOWED}', parameter="data")
    return CaptionFolder(path)


class CaptionFolder:
    """Images anywhere under a folder, each with its caption in a .txt file of the same name (UTF-8)."""

    def __init__(self, folder: Path) -> None:
        self._images: list[Path] = []
        skipped = []
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES):
            reason = _unusable(path)
            if reason:
                skipped.append(f"{path}: {reason}")
            else:
                self._images.append(path)
        self.blocks: tuple[int, ...] = (len(self._images),)
        self.skipped = tuple(skipped)

    def read(self, index: int) -> tuple[Image.Image, str]:
        """Image `index` and its caption. Raises one of UNREADABLE if either can't be read."""
        path = self._images[index]
        return _decode(path.read_bytes()), path.with_suffix(".txt").read_text("utf-8-sig").strip()

    def name(self, index: int) -> str:
        """The path of image `index`."""
        return str(self._images[index])


def _unusable(path: Path) -> str:
    """Why an image can't be used, as far as its first bytes tell; empty if it can."""
    try:
        if not path.with_suffix(".txt").read_text("utf-8-sig").strip():
            return "its caption is empty"
    except FileNotFoundError:
        return "it has no .txt caption"
    except (OSError, ValueError) as error:
        return f"its caption can't be read ({error})"
    try:
        with Image.open(path) as image:
            return "" if min(image.size) > 0 else "it has no pixels"
    except UNREADABLE as error:
        return f"it is not an image ({error})"


class TarShards:
    """Webdataset tars, each a block: NAME.jpg and NAME.txt (or NAME.json with "caption" or "text") belong together.

    Only the members' offsets stay in memory. A torn tar gives the images before the tear.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._members: list[tuple[Path, str, tuple[int, int], tuple[int, int], bool]] = []
        skipped: list[str] = []
        blocks = []
        for path in paths:
            before = len(self._members)
            self._index(path, skipped)
            blocks.append(len(self._members) - before)
        self.blocks, self.skipped = tuple(blocks), tuple(skipped)

    def _index(self, path: Path, skipped: list[str]) -> None:
        """Notes where the images of a .tar and their captions lie; what has no caption is skipped and named."""
        images: dict[str, tuple[int, int]] = {}
        texts: dict[str, tuple[tuple[int, int], bool]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    stem, suffix = os.path.splitext(member.name)
                    extent = (member.offset_data, member.size)
                    if member.isfile() and suffix.lower() in IMAGES:
                        images[stem] = extent
                    elif member.isfile() and (suffix == ".txt" or (suffix == ".json" and stem not in texts)):
                        texts[stem] = (extent, suffix == ".json")
        except (OSError, tarfile.TarError) as error:
            skipped.append(f"{path}: {error}; {len(images)} images before that")
        for stem, image in images.items():
            if stem in texts:
                self._members.append((path, stem, image, *texts[stem]))
            else:
                skipped.append(f"{path}/{stem}: it has no .txt or .json caption")

    def read(self, index: int) -> tuple[Image.Image, str]:
        """Image `index` and its caption. Raises one of UNREADABLE if either can't be read."""
        path, _, image, text, is_json = self._members[index]
        with path.open("rb") as file:
            data, words = (read_at(file.fileno(), size, offset) for offset, size in (image, text))
        return _decode(data), _caption(words.decode("utf-8-sig"), is_json=is_json)

    def name(self, index: int) -> str:
        """The tar of image `index`, and the member's name without its ending."""
        path, stem, *_ = self._members[index]
        return f"{path}/{stem}"


def _caption(text: str, *, is_json: bool) -> str:
    if not is_json:
        return text.strip()
    record = parse_json(text, "its .json")
    for key in ("caption", "text"):
        if isinstance(record.get(key), str):
            return str(record[key]).strip()
    raise ValueError('its .json has neither "caption" nor "text"')


class ParquetShards:
    """Parquet files, each row group a block.

    The image is in a column "image", "jpg", "png" or "webp" (bytes, or a struct with "bytes"), its caption in "text",
    "caption" or "txt"; the first of these that is there counts. Four row groups stay in memory.

    Raises UsageError without pyarrow.
    """

    def __init__(self, paths: list[Path]) -> None:
        parquet = _pyarrow_parquet()
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, number of its first row over all files
        skipped: list[str] = []
        blocks: list[int] = []
        for path in paths:
            try:
                file = parquet.ParquetFile(path)
                self._columns(file.schema_arrow.names)
            except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
                skipped.append(f"{path}: {error}")
                continue
            for group in range(file.num_row_groups):
                self._groups.append((path, group, sum(blocks)))
                blocks.append(file.metadata.row_group(group).num_rows)
        self.blocks, self.skipped = tuple(blocks), tuple(skipped)
        self._rows = lru_cache(maxsize=4)(self._read_group)

    @staticmethod
    def _columns(names: list[str]) -> tuple[str, str]:
        images = [name for name in ("image", "jpg", "png", "webp") if name in names]
        texts = [name for name in ("text", "caption", "txt") if name in names]
        if not images or not texts:
            raise ValueError(f'its columns are {", ".join(names)}; required: "image" and "text"')
        return images[0], texts[0]

    def _read_group(self, path: Path, group: int) -> tuple[list[Any], list[Any]]:
        file = _pyarrow_parquet().ParquetFile(path)
        image, text = self._columns(file.schema_arrow.names)
        table = file.read_row_group(group, columns=[image, text])
        return table.column(image).to_pylist(), table.column(text).to_pylist()

    def _row_of(self, index: int) -> tuple[Path, int, int]:
        path, group, first = next(entry for entry in reversed(self._groups) if entry[2] <= index)
        return path, group, index - first

    def read(self, index: int) -> tuple[Image.Image, str]:
        """Image `index` and its caption. Raises one of UNREADABLE if the row lacks one of them."""
        path, group, row = self._row_of(index)
        images, texts = self._rows(path, group)
        data = images[row]["bytes"] if isinstance(images[row], dict) else images[row]
        if not isinstance(data, bytes) or not isinstance(texts[row], str):
            raise ValueError("the row holds no bytes of an image, or no text")
        return _decode(data), texts[row].strip()

    def name(self, index: int) -> str:
        """The file of image `index`, its row and its row group, counted from 0."""
        path, group, row = self._row_of(index)
        return f"{path}, row {row} of group {group}"


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            "with .parquet files needs pyarrow: pip install 'linfusion-cli[train]'", parameter="data"
        ) from error
    return parquet


class Scenes:
    """The procedural scenes, rendered when they are read: 70 % whole scenes, 30 % windows into them, by chance."""

    def __init__(self, size_px: int, seed: int) -> None:
        self._size_px, self._seed = size_px, seed
        self.blocks: tuple[int, ...] = (EPOCH_SCENES,)
        self.skipped: tuple[str, ...] = ()

    def read(self, index: int) -> tuple[Image.Image, str]:
        """Renders scene `index`, (size_px, size_px), with a random caption that describes it."""
        from linfusion_cli.landscapes.frame import View
        from linfusion_cli.landscapes.render import random_view, render, to_levels
        from linfusion_cli.landscapes.scene import caption, sample_scene

        rng = random.Random(f"{self._seed}/{index}")
        scene = sample_scene(rng)
        view = View() if rng.random() < 0.7 else random_view(scene, rng)
        levels = to_levels(render([scene], self._size_px, self._size_px, [view]))[0]
        return Image.fromarray(levels.permute(1, 2, 0).numpy()), caption(scene, rng)

    def name(self, index: int) -> str:
        """The number of the scene."""
        return f"scene {index}"


def _decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
