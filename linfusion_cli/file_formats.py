"""The file formats that images are written in: what each of them can hold, and the settings of one file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from linfusion_cli.errors import Option, UsageError, option
from linfusion_cli.geometry import Size

ColorProfile = Literal["srgb", "display-p3"]
TiffCompression = Literal["deflate", "zstd", "none"]
COLOR_PROFILES: tuple[ColorProfile, ...] = ("srgb", "display-p3")
TIFF_COMPRESSIONS: tuple[TiffCompression, ...] = ("deflate", "zstd", "none")
DEFAULT_QUALITY = 95
SRGB_ONLY: tuple[ColorProfile, ...] = ("srgb",)
PACKAGE = "linfusion-cli"
CHANNELS = 3  # of every image that is written: red, green, blue


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """What one format can hold, and what its writer needs.

    endings: of file names, the usual one first; largest_side_px: of width and height
    held_bytes_per_px, held_lossless_bytes_per_px, held_bytes: the memory of a writer that needs the whole image; all 0
        where rows are streamed. Measured: docs/log.md
    disk_bytes_per_px: the most that 8 bits per channel take on the disk
    lossless: "always", "never", or a "choice" of the user
    modules, extra: what has to be installed, and the extra of this package that brings it
    """

    name: str
    title: str
    endings: tuple[str, ...]
    largest_side_px: int
    held_bytes_per_px: float = 0
    held_lossless_bytes_per_px: float = 0
    held_bytes: int = 0
    disk_bytes_per_px: float = 3.5
    lossless: Literal["always", "never", "choice"] = "choice"
    bits: tuple[int, ...] = (8,)
    color_profiles: tuple[ColorProfile, ...] = COLOR_PROFILES
    holds_dpi: bool = True
    modules: tuple[str, ...] = ()
    extra: str = ""

    @property
    def streams(self) -> bool:
        """Whether the memory of its writer does not grow with the height."""
        return not self.held_bytes_per_px

    @property
    def missing_modules(self) -> tuple[str, ...]:
        """The modules that its writer needs and that are not installed."""
        return tuple(name for name in self.modules if importlib.util.find_spec(name) is None)


FORMATS = (
    FileFormat(
        name="png", title="PNG", endings=(".png",), largest_side_px=(1 << 31) - 1, lossless="always", bits=(8, 16)
    ),
    FileFormat(name="jpeg", title="JPEG", endings=(".jpg", ".jpeg"), largest_side_px=65535, lossless="never"),
    FileFormat(
        name="tiff",
        title="TIFF",
        endings=(".tif", ".tiff"),
        largest_side_px=(1 << 31) - 1,
        lossless="always",
        bits=(8, 16),
        disk_bytes_per_px=4.5,  # with the smaller levels, before they are compressed
        modules=("tifffile", "imagecodecs"),
        extra="tiff",
    ),
    FileFormat(
        name="webp",
        title="WebP",
        endings=(".webp",),
        largest_side_px=16383,
        held_bytes_per_px=22,
        held_lossless_bytes_per_px=48,
    ),
    FileFormat(
        name="avif",
        title="AVIF",
        endings=(".avif",),
        largest_side_px=65535,
        held_bytes_per_px=52,
        lossless="never",
    ),
    FileFormat(
        name="jxl",
        title="JPEG XL",
        endings=(".jxl",),
        largest_side_px=(1 << 30) - 1,
        held_bytes_per_px=30,
        held_lossless_bytes_per_px=30,
        held_bytes=150_000_000,
        color_profiles=SRGB_ONLY,
        modules=("pillow_jxl",),
        extra="jxl",
    ),
    FileFormat(name="dzi", title="DZI", endings=(".dzi",), largest_side_px=(1 << 31) - 1, holds_dpi=False),
)
FORMAT_NAMES = tuple(one.name for one in FORMATS)
ENDINGS = tuple(ending for one in FORMATS for ending in one.endings)
BY_NAME = {one.name: one for one in FORMATS}
PNG = BY_NAME["png"]


def format_of_ending(ending: str) -> FileFormat | None:
    """The format of a name that ends in `ending` (".jpg", in any case); None for one that no format has."""
    return next((one for one in FORMATS if ending.lower() in one.endings), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """How one file is written. quality: 1 to 100, of what is not lossless; dpi: dots per inch, 0 for none said."""

    format: FileFormat = PNG
    bits: int = 8
    quality: int = DEFAULT_QUALITY
    lossless: bool = True
    dpi: int = 0
    color_profile: ColorProfile = "srgb"
    tiff_compression: TiffCompression = "deflate"
    pyramid: bool = False

    @property
    def row_bits(self) -> int:
        """The bits of the rows that its writer reads: 16 also where they are converted to 8 bits of other colours."""
        return 16 if self.bits == 16 or self.color_profile != "srgb" else 8

    def held_bytes(self, size: Size) -> int:
        """The memory that the writer needs for an image of `size` (pixels), beside single rows."""
        lossless = self.lossless and self.format.lossless == "choice"
        per_px = self.format.held_lossless_bytes_per_px if lossless else self.format.held_bytes_per_px
        return int(per_px * size.area) + self.format.held_bytes

    def largest_bytes(self, size: Size) -> int:
        """The most bytes that the file of an image of `size` (pixels) can take on the disk."""
        return int(self.format.disk_bytes_per_px * size.area * self.bits / 8) + (1 << 20)


SETTINGS = tuple(one.name for one in fields(FileSettings) if one.name != "format")  # keys of the table of options


def file_settings(chosen: FileFormat, given: Mapping[str, Any], size: Size, output: str = "") -> FileSettings:
    """The settings of a file of this format and size (pixels).

    given:  what a user asks of the file, by the field of FileSettings; what is left out is the format's own choice.
    output: the name whose ending chose the format; "" if the format was named otherwise
    Raises UsageError, before any work, for a size or a setting that the format can't hold, and for one that needs a
    package that is not here. The message names a format that can.
    """
    _check_installed(chosen)
    _check_size(chosen, size, output)
    _check_given(chosen, given, output)
    lossless = chosen.lossless == "always" or given.get("lossless", False)
    return FileSettings(**{**given, "format": chosen, "lossless": lossless})


def _check_installed(chosen: FileFormat) -> None:
    if chosen.missing_modules:
        names = ", ".join(chosen.missing_modules)
        raise UsageError(
            f'"{chosen.name}": {chosen.title} needs {names}: pip install "{PACKAGE}[{chosen.extra}]"',
            parameter="format",
        )
    if chosen.name == "avif":
        from PIL import features

        if not features.check("avif"):
            raise UsageError(
                '"avif": this Pillow has no AVIF: pip install --upgrade "pillow>=11.3"', parameter="format"
            )


def _instead(output: str, fitting: FileFormat) -> Option:
    """What asks for another format: the name with its ending, where the ending chose the one that does not fit."""
    return (
        option("output", f"{output.rpartition('.')[0]}{fitting.endings[0]}")
        if output
        else option("format", fitting.name)
    )


def _check_size(chosen: FileFormat, size: Size, output: str) -> None:
    if max(size.width, size.height) > chosen.largest_side_px:
        fitting = _first(one for one in FORMATS if one.largest_side_px >= max(size.width, size.height))
        raise UsageError(
            f"{size}: {chosen.title} holds at most {chosen.largest_side_px} pixels a side. Nearest: ",
            _instead(output, fitting),
            ", or a smaller ",
            option("size"),
        )


def _check_given(chosen: FileFormat, given: Mapping[str, Any], output: str) -> None:
    """Raises UsageError for a setting that the format can't hold."""
    refuse, lossless = _Refusal(chosen, output), given.get("lossless")
    if (bits := given.get("bits", 8)) not in chosen.bits:
        refuse("bits", bits, "has 8 bits per channel", lambda one: bits in one.bits)
    if "quality" in given and (chosen.lossless == "always" or lossless):
        refuse("quality", given["quality"], "without loss has no quality", lambda one: one.lossless == "never")
    if lossless and chosen.lossless == "never":
        refuse("lossless", True, "always loses some detail", lambda one: one.lossless != "never")
    if lossless is False and chosen.lossless == "always":
        refuse("lossless", False, "never loses any detail", lambda one: one.lossless != "always")
    if "dpi" in given and not chosen.holds_dpi:
        refuse("dpi", given["dpi"], "holds no resolution", lambda one: one.holds_dpi)
    if (profile := given.get("color_profile", "srgb")) not in chosen.color_profiles:
        refuse("color_profile", profile, "is written as sRGB", lambda one: one.color_profiles == COLOR_PROFILES)
    if "tiff_compression" in given and chosen.name != "tiff":
        refuse("tiff_compression", given["tiff_compression"], "is not a TIFF", lambda one: one.name == "tiff")
    if given.get("pyramid") and chosen.name not in ("tiff", "dzi"):
        refuse("pyramid", True, "holds one level", lambda one: one.name == "tiff")


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Raises UsageError for a setting that a format can't have, with the first format that can."""

    chosen: FileFormat
    output: str

    def __call__(self, parameter: str, value: object, why: str, fits: Callable[[FileFormat], bool]) -> None:
        fitting = _first(one for one in FORMATS if fits(one))
        given = {"True": "is of no use", "False": "can't be off"}.get(str(value), value)
        raise UsageError(
            f"{given}: {self.chosen.title} {why}. Nearest: leave it out, or ",
            _instead(self.output, fitting),
            parameter=parameter,
        )


def _first(fitting: Iterable[FileFormat]) -> FileFormat:
    return next(one for one in fitting if not one.missing_modules or one.name == "tiff")
