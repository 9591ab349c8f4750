"""The colours that an image file declares, and their conversion to sRGB by LittleCMS."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linfusion_cli.images.coded_colours import HDR, CodedColours, coded_colours_of
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.exact_colour import ExactTransform, display_transform, exact_transform, tags_of
from linfusion_cli.images.icc import ADOBE, GAMMA_SRGB, SRGB, Chromaticities, matrix_profile

SAME_LEVELS = 2  # a profile that changes no colour by more than this is taken for sRGB
LATTICE = 9  # levels per channel at which that is tried
SRGB_GAMMA = 0.45455  # what programs write for the curve of sRGB
EXACTLY = 0.00002  # gAMA counts hundred-thousandths
COLOUR_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of ICC profiles, and Pillow's mode
INTEROPERABILITY = 0xA005


@dataclass(frozen=True, slots=True)
class Conversion:
    """A transform of strips in `mode` ("RGB", "L", "CMYK" or "LAB") to sRGB.

    transform: LittleCMS's, of 8 bits a channel
    name: of what it converts from
    exact: the same for numbers of any precision; None where the profile is a table
    """

    transform: Any
    mode: str
    name: str
    exact: ExactTransform | None = None

    def apply(self, strip: Any) -> Any:
        """An image in `mode` as RGB in sRGB."""
        from PIL import ImageCms

        return ImageCms.applyTransform(strip, self.transform)


@dataclass(frozen=True, slots=True)
class Colours:
    """What is done to an image's colours, None for nothing, and what the user is told of it, "" for nothing.

    is_srgb: the file says so itself
    """

    conversion: Conversion | None = None
    note: str = ""
    is_srgb: bool = False


def colours_of(image: Any, path: Path) -> Colours:
    """The conversion that an image opened from `path` needs, by its code points, ICC profile, PNG chunks or EXIF data.

    Raises ImageError for images of high dynamic range, and for PNGs of video range.
    """
    if image.mode == "LAB":
        from PIL import ImageCms

        return _converted(ImageCms.createProfile("LAB"), "LAB", "CIELAB", None)
    profile, coded = image.info.get("icc_profile"), coded_colours_of(image, path)
    if coded and not (profile and image.format != "PNG"):  # a PNG's cICP comes before its profile, nclx after it
        return _of_code_points(coded)
    if profile:
        return _of_profile(image, profile)
    if image.format == "PNG" and "srgb" not in image.info:
        return _of_png(image)
    if image.mode == "CMYK":
        return Colours(note="its CMYK colours have no profile; they are converted without one")
    return _of_exif(image)


def _of_code_points(coded: CodedColours) -> Colours:
    display = coded.display()
    if display is None:
        points = f"{coded.primaries}, {coded.transfer}, {coded.matrix}"
        return Colours(note=f"the code points of its {coded.where} ({points}) are not known and not used")
    return _made(*display, f"{coded.name} (by its {coded.where})")


def _of_profile(image: Any, data: bytes) -> Colours:
    from PIL import ImageCms

    try:
        profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space, name = profile.profile.xcolor_space.strip(), _name(profile)
        transfer = tags_of(data).get(b"cicp", b"")[9:10]
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return Colours(note="its colour profile is damaged and not used")
    if transfer and transfer[0] in HDR:
        raise ImageError(f"is an HDR image: {HDR[transfer[0]]} by its colour profile. Save it as SDR first: sRGB")
    mode = COLOUR_SPACES.get(space, "")
    is_grey = image.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
    if not mode or (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and not is_grey):
        return Colours(note=f"its colour profile {name} is for {space or 'other'} colours and not used")
    return _converted(profile, mode, name, exact_transform(data, mode))


def _name(profile: Any) -> str:
    from PIL import ImageCms

    text = ""
    with suppress(ImageCms.PyCMSError, *DECODER_ERRORS):
        text = " ".join(ImageCms.getProfileDescription(profile).split())[:60]
    return f'"{text}"' if text else "without a name"


def _converted(profile: Any, mode: str, name: str, exact: ExactTransform | None) -> Colours:
    """The conversion from a profile; none where it changes nothing that could be seen."""
    from PIL import ImageCms

    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=intent, flags=flags
        )
        conversion = Conversion(transform, mode, name)
        if mode in ("RGB", "L"):
            levels = _levels(mode)
            shown = conversion.apply(levels)
            if _largest_change(levels.convert("RGB"), shown) <= SAME_LEVELS:
                return Colours(is_srgb=True)
            conversion = replace(conversion, exact=exact if exact and _agrees(exact, conversion) else None)
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return Colours(note=f"its colour profile {name} can't be applied and is not used")
    return Colours(conversion, f"its colours are converted from {name} to sRGB")


def _agrees(exact: ExactTransform, conversion: Conversion) -> bool:
    """Whether an exact transform is what LittleCMS makes of a lattice of levels, but for rounding.

    Between black and the next level of the lattice LittleCMS is no measure: its own tables are coarse there.
    """
    import numpy as np
    from PIL import Image

    axis = np.linspace(0, 255, LATTICE).round().astype(np.uint8)
    grey = conversion.mode == "L"
    levels = axis[None] if grey else np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(1, -1, 3)
    shown = np.asarray(conversion.apply(Image.fromarray(levels)))
    found = exact.apply((levels[:, :, None] if grey else levels) / 255) * 255
    return float(np.abs(found - shown).max()) <= SAME_LEVELS


def _levels(mode: str) -> Any:
    """One row of all greys, or of a lattice of colours."""
    import numpy as np
    from PIL import Image

    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    axis = np.linspace(0, 255, LATTICE).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(1, -1, 3))


def _largest_change(before: Any, after: Any) -> int:
    import numpy as np

    return int(np.abs(np.asarray(after).astype(int) - np.asarray(before)).max())


def _of_png(image: Any) -> Colours:
    """By the chunks cHRM and gAMA (PNG specification, 11.3.2), which tell of a display, not of a profile."""
    gamma, primaries = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma is None and primaries is None:
        return Colours()
    usable = gamma is None or 0.1 <= gamma <= 5
    chromaticities = Chromaticities.of(primaries) if primaries else SRGB
    if not usable or chromaticities is None:
        return Colours(note="its gamma or its primaries (gAMA, cHRM) are impossible and not used")
    near = 0.001 if primaries is None or _is_srgb(chromaticities) else EXACTLY  # AdobeRGB's is 0.45471
    curve = GAMMA_SRGB if gamma is None or abs(gamma - SRGB_GAMMA) < near else 1 / gamma
    return _made(chromaticities, curve, "its gamma and primaries (gAMA, cHRM)")


def _is_srgb(found: Chromaticities) -> bool:
    """Whether chromaticities are those of sRGB, but for rounding."""
    return all(abs(one - other) < 0.002 for one, other in zip(found.numbers, SRGB.numbers, strict=True))


def _of_exif(image: Any) -> Colours:
    """AdobeRGB as cameras mark it: by the interoperability index R03 (DCF 2.0)."""
    with suppress(*DECODER_ERRORS):
        if image.format in ("JPEG", "MPO") and image.getexif().get_ifd(INTEROPERABILITY).get(1) == "R03":
            return _made(ADOBE, 563 / 256, "AdobeRGB (by its EXIF data)")
    return Colours()


def _made(chromaticities: Chromaticities, curve: float, name: str) -> Colours:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(matrix_profile(chromaticities, curve)))
    return _converted(profile, "RGB", name, display_transform(chromaticities, curve))
