"""Every format: independent readers see pixels, colours, resolution and record; failures leave nothing over."""

import contextlib
import errno
import importlib.util
import json
import os
import resource
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_samples import TEXTS, image_of, in_pieces, settings_of
from PIL import Image, ImageCms

from linfusion_cli.errors import DiskFullError, OutputError, UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.output import atomic_file
from linfusion_cli.output.formats import deep_zoom, writer
from linfusion_cli.output.formats.check import check, has_ends
from linfusion_cli.output.formats.exif_xmp import record_text
from linfusion_cli.output.formats.strips import Rows
from linfusion_cli.output.formats.writer import check_destination, check_texts, write_image
from linfusion_cli.output.metadata import stored_record

ODD = Size(331, 277)
SMALL = Size(331, 90)  # two tiles, two strips
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("png", {}),
    ("png", {"bits": 16}),
    ("jpeg", {}),
    ("tiff", {}),
    ("tiff", {"tiff_compression": "zstd", "pyramid": True}),
    ("tiff", {"tiff_compression": "none", "bits": 16}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("avif", {}),
    ("jxl", {}),
    ("jxl", {"lossless": True}),
    ("dzi", {}),
    ("dzi", {"lossless": True}),
)
IDS = [f"{name} {' '.join(f'{key}={value}' for key, value in given.items())}" for name, given in WAYS]
every_way = pytest.mark.parametrize(("name", "given"), WAYS, ids=IDS)


def written(folder: Path, name: str, size: Size, image: Rows | None = None, **given: Any) -> tuple[Path, Rows]:
    settings = settings_of(name, size, **given)
    image = image_of(size, settings.row_bits) if image is None else image
    path = folder / f"a{settings.format.endings[0]}"
    write_image(path, size, settings, TEXTS, in_pieces(image), overwrite=False)
    return path, image


def read_back(path: Path) -> Rows:
    """The pixels, by a reader that shares no code with the writer where there is one."""
    if path.suffix == ".dzi":
        return stitched(path)
    if path.suffix == ".tif":  # pyvips' own wheel has no zstd
        return np.asarray(pytest.importorskip("tifffile").imread(path))
    if path.suffix == ".png":
        pyvips = pytest.importorskip("pyvips")
        return np.asarray(pyvips.Image.new_from_file(str(path)).numpy())
    if path.suffix == ".jxl":
        importlib.import_module("pillow_jxl")
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def stitched(path: Path) -> Rows:
    """The highest level of a deep zoom, put together from its tiles as a viewer does."""
    folder = path.with_name("a_files")
    level = max(folder.iterdir(), key=lambda one: int(one.name))
    out = np.zeros((ODD.height, ODD.width, 3), np.uint8)
    for tile in level.iterdir():
        column, row = map(int, tile.stem.split("_"))
        left, top = max(0, column * 254 - 1), max(0, row * 254 - 1)
        pixels = np.asarray(Image.open(tile))
        out[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return out


@every_way
def test_pixels_come_back(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    path, image = written(tmp_path, name, ODD, **given)
    pixels = read_back(path)
    assert pixels.shape == image.shape
    assert pixels.dtype == image.dtype
    if settings_of(name, ODD, **given).lossless:
        assert np.array_equal(pixels, image)
    else:
        assert np.abs(pixels.astype(int) - image).mean() <= 2


@pytest.mark.slow
@every_way
def test_the_record_comes_back(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    path, _ = written(tmp_path, name, ODD, **given)
    text = stored_record(path)
    assert text == TEXTS["linfusion"]
    assert json.loads(text)["prompt"] == 'a <b> & "c"'


@pytest.mark.slow
@every_way
def test_a_whole_file_is_known_and_a_cut_one_is_found(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    path, _ = written(tmp_path, name, ODD, **given)
    check(path)
    assert has_ends(str(path))
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(OutputError, match="damaged"):
        check(path)


@every_way
def test_too_few_rows_leave_nothing(tmp_path: Path, name: str, given: dict[str, Any]) -> None:
    settings = settings_of(name, ODD, **given)
    image = image_of(ODD, settings.row_bits)
    with pytest.raises(ValueError, match="277 rows, only 200"):
        write_image(
            tmp_path / f"a{settings.format.endings[0]}", ODD, settings, TEXTS, in_pieces(image[:200]), overwrite=False
        )
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def no_file_above(limit_bytes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system lets no file grow beyond this, by a real error inside of the encoder: no space is reserved first."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "_reserve", lambda descriptor, size_bytes: None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@every_way
def test_a_write_that_fails_anywhere_leaves_what_was_there_and_the_same_call_works(
    tmp_path: Path, name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first byte, behind the beginning, in the middle, at the last byte, and when the data are synced."""
    settings, size = settings_of(name, SMALL, **given), SMALL
    image, path = image_of(size, settings.row_bits), tmp_path / f"a{settings.format.endings[0]}"

    def write(*, overwrite: bool = False) -> None:
        write_image(path, size, settings, TEXTS, in_pieces(image), overwrite=overwrite)

    write()
    whole, kept = names_in(tmp_path), path.read_bytes()
    largest = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    for limit in (0, 1, 600, largest // 2, largest - 1):
        with no_file_above(limit, monkeypatch), pytest.raises(OutputError, match=rf"Can't write '.*a\{path.suffix}'"):
            write()
        assert names_in(tmp_path) == []
    for call, code in (("fsync", errno.ENOSPC), ("fsync", errno.EIO), ("ftruncate", errno.ENOSPC)):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, partial(_fails, code))
            with pytest.raises(DiskFullError if code == errno.ENOSPC else OutputError, match=r"Can't write '.*a\."):
                write()
        assert names_in(tmp_path) == []
    write()
    assert (names_in(tmp_path), path.read_bytes()) == (whole, kept)
    with no_file_above(largest // 2, monkeypatch), pytest.raises(OutputError):
        write(overwrite=True)
    assert (names_in(tmp_path), path.read_bytes()) == (whole, kept)
    check(path)


@pytest.mark.slow
@every_way
@pytest.mark.parametrize("passed", [0, 3000])
def test_a_write_call_that_says_that_the_disk_is_full_leaves_nothing(
    passed: int, tmp_path: Path, name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC from write() itself, at the first byte and behind some: the limit of the other test says EFBIG."""
    settings = settings_of(name, SMALL, **given)
    image, path = image_of(SMALL, settings.row_bits), tmp_path / f"a{settings.format.endings[0]}"
    with monkeypatch.context() as patch:
        fill(patch, passed)
        with pytest.raises(DiskFullError, match=rf"Can't write '.*a\{path.suffix}': No space left"):
            write_image(path, SMALL, settings, TEXTS, in_pieces(image), overwrite=False)
    assert names_in(tmp_path) == []
    write_image(path, SMALL, settings, TEXTS, in_pieces(image), overwrite=False)
    check(path)


def fill(patch: pytest.MonkeyPatch, room_bytes: int) -> None:
    """A disk with room for so many bytes, in all files together, for what writes by os.write() and by Path."""
    left, real_write, real_bytes = [room_bytes], os.write, Path.write_bytes

    def write(descriptor: int, data: Any) -> int:
        take(len(data))
        return real_write(descriptor, data)

    def write_bytes(path: Path, data: Any) -> int:
        take(len(data))
        return real_bytes(path, data)

    def take(count: int) -> None:
        if count > left[0]:
            _fails(errno.ENOSPC)
        left[0] -= count

    patch.setattr(os, "write", write)
    patch.setattr(Path, "write_bytes", write_bytes)


def test_the_same_call_works_after_a_kill_between_the_tiles_and_their_dzi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, path = settings_of("dzi", SMALL), tmp_path / "a.dzi"
    tiles, image = tmp_path / "a_files", image_of(SMALL)

    def write() -> None:
        check_destination(path, SMALL, settings, overwrite=False)
        write_image(path, SMALL, settings, TEXTS, in_pieces(image), overwrite=False)

    def killed(file: atomic_file.AtomicFile) -> None:
        """Leaves what a killed process does: the tiles, and a temporary file that nobody has locked."""
        left.append(file.path.with_name(file.temporary_name))
        raise KeyboardInterrupt

    left: list[Path] = []
    for kept in (True, False):  # what tidies up may have removed the temporary file before
        with monkeypatch.context() as patch:
            patch.setattr(atomic_file.AtomicFile, "commit", killed)
            patch.setattr(writer, "finish", lambda path: None)
            with pytest.raises(KeyboardInterrupt):
                write()
        assert tiles.is_dir()
        assert not path.exists()
        if kept:
            left[-1].touch()
        write()
        check(path)
        assert sorted(one.name for one in tmp_path.iterdir()) == ["a.dzi", "a_files"]
        assert not (tiles / deep_zoom.MARK).exists()
        shutil.rmtree(tiles)
        path.unlink()


@pytest.mark.parametrize("owner", ["alive", "notes.txt", "../notes.txt", ""])
def test_tiles_that_may_be_of_a_living_process_stay(owner: str, tmp_path: Path) -> None:
    settings, path = settings_of("dzi", SMALL), tmp_path / "a.dzi"
    (tiles := tmp_path / "a_files").mkdir()
    (tmp_path / "notes.txt").write_text("kept")
    with atomic_file.AtomicFile(path) as other:
        (tiles / deep_zoom.MARK).write_text(other.temporary_name if owner == "alive" else owner)
        with pytest.raises(OutputError, match="Can't write"):
            write_image(path, SMALL, settings, TEXTS, in_pieces(image_of(SMALL)), overwrite=False)
    assert (tiles / deep_zoom.MARK).exists()
    assert (tmp_path / "notes.txt").read_text() == "kept"


def _fails(code: int, *_: object) -> None:
    raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "webp", "avif", "dzi"])
def test_display_p3_shows_the_same_colours(tmp_path: Path, name: str) -> None:
    """The profile turns the converted pixels back into those that were made."""
    given = {} if name in ("png", "tiff", "avif", "jpeg") else {"lossless": True}
    image = np.zeros((16, 24, 3), np.uint16)
    image[:8, :12], image[8:, :12], image[:8, 12:], image[8:, 12:] = (
        (65535, 0, 0), (20000, 40000, 60000), (30000, 30000, 30000), (0, 65535, 20000),
    )  # fmt: skip
    size = Size(24, 16)
    path, _ = written(tmp_path, name, size, image, color_profile="display-p3", **given)
    opened = Image.open(tmp_path / "a_files" / "5" / "0_0.png" if name == "dzi" else path)
    profile = opened.info["icc_profile"]
    import io

    p3 = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    assert ImageCms.getProfileDescription(p3).strip() == "Display P3"
    back = ImageCms.profileToProfile(opened.convert("RGB"), p3, ImageCms.createProfile("sRGB"))
    assert back is not None
    difference = np.abs(np.asarray(back).astype(int) - (image / 257).round())
    blocks = difference[2:6, 2:10], difference[10:14, 2:10], difference[2:6, 14:22], difference[10:14, 14:22]
    assert max(block.max() for block in blocks) <= (12 if name in ("jpeg", "avif") else 3)  # 78 if not converted


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "webp", "avif"])
def test_dots_per_inch(tmp_path: Path, name: str) -> None:
    path, _ = written(tmp_path, name, Size(16, 16), dpi=300)
    with Image.open(path) as image:
        if name in ("webp", "avif"):
            assert image.getexif()[282] == 300
        else:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
def test_a1111_readers_find_the_words(tmp_path: Path, name: str) -> None:
    """As A1111 reads them: EXIF UserComment, "UNICODE", UTF-16 in big-endian order."""
    path, _ = written(tmp_path, name, Size(16, 16))
    if name == "jxl":
        importlib.import_module("pillow_jxl")
    with Image.open(path) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == TEXTS["parameters"]


def test_a_pyramid_has_its_levels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path, image = written(tmp_path, "tiff", Size(700, 520), pyramid=True)
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(520, 700, 3), (260, 350, 3), (130, 175, 3)]
        half = image.reshape(260, 2, 350, 2, 3).mean((1, 3))
        assert np.abs(levels[1].asarray() - half).max() <= 0.5


def test_a_long_text_is_refused_for_jpeg_alone() -> None:
    long = {**TEXTS, "parameters": "山" * 40_000}
    with pytest.raises(UsageError, match="a JPEG holds 65,000"):
        check_texts(long, settings_of("jpeg", ODD))
    check_texts(long, settings_of("tiff", ODD))


def test_an_existing_deep_zoom_is_kept_and_replaced_whole(tmp_path: Path) -> None:
    settings, path = settings_of("dzi", Size(16, 16)), tmp_path / "a.dzi"
    (tmp_path / "a_files").mkdir()
    (tmp_path / "a_files" / "old").write_text("x")
    with pytest.raises(OutputError, match="already exists"):
        check_destination(path, Size(16, 16), settings, overwrite=False)
    check_destination(path, Size(16, 16), settings, overwrite=True)
    write_image(path, Size(16, 16), settings, TEXTS, in_pieces(image_of(Size(16, 16))), overwrite=True)
    assert not (tmp_path / "a_files" / "old").exists()
    check(path)
    (tmp_path / "a_files" / "3" / "0_0.jpg").unlink()
    with pytest.raises(OutputError, match=r"0_0\.jpg' is missing"):
        check(path)


def test_rows_that_fail_leave_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[Rows]:
        yield image_of(Size(16, 8))
        raise KeyboardInterrupt

    for name in ("png", "jpeg", "dzi", "tiff"):
        settings = settings_of(name, Size(16, 16))
        path = tmp_path / f"a{settings.format.endings[0]}"
        with pytest.raises(KeyboardInterrupt):
            write_image(path, Size(16, 16), settings, TEXTS, rows(), overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_records_are_found_in_any_piece_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + bytes((1 << 20) - 14) + b"<linfusion:record>{}</linfusion:record>")
    assert record_text(path) == "{}"
    path.write_bytes(b"II*\0<linfusion:record>{" + bytes(2 << 20))
    with pytest.raises(UsageError, match="cut short"):
        record_text(path)
