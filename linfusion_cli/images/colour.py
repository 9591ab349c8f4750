"""The colours that an image file declares, and their conversion to sRGB by LittleCMS."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from linfusion_cli.images.errors import DECODER_ERRORS
from linfusion_cli.images.icc import ADOBE, GAMMA_SRGB, SRGB, Chromaticities, matrix_profile

SAME_LEVELS = 2  # a profile that changes no colour by more than this is taken for sRGB
LATTICE = 9  # levels per channel at which that is tried
SRGB_GAMMA = 0.45455
COLOUR_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of ICC profiles, and Pillow's mode
INTEROPERABILITY = 0xA005


@dataclass(frozen=True, slots=True)
class Conversion:
    """A transform of strips in `mode` ("RGB", "L", "CMYK" or "LAB") to sRGB. name: of what it converts from."""

    transform: Any
    mode: str
    name: str

    def apply(self, strip: Any) -> Any:
        """An image in `mode` as RGB in sRGB."""
        from PIL import ImageCms

        return ImageCms.applyTransform(strip, self.transform)


@dataclass(frozen=True, slots=True)
class Colours:
    """What is done to an image's colours, None for nothing, and what the user is told of it, "" for nothing."""

    conversion: Conversion | None = None
    note: str = ""


def colours_of(image: Any) -> Colours:
    """The conversion that an opened image needs, by its ICC profile, its PNG chunks or its EXIF data."""
    if image.mode == "LAB":
        from PIL import ImageCms

        return _converted(ImageCms.createProfile("LAB"), "LAB", "CIELAB")
    if data := image.info.get("icc_profile"):
        return _of_profile(image, data)
    if image.format == "PNG" and "srgb" not in image.info:
        return _of_png(image)
    if image.mode == "CMYK":
        return Colours(note="its CMYK colours have no profile; they are converted without one")
    return _of_exif(image)


def _of_profile(image: Any, data: bytes) -> Colours:
    from PIL import ImageCms

    try:
        profile: Any = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space, name = profile.profile.xcolor_space.strip(), _name(profile)
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return Colours(note="its colour profile is damaged and not used")
    mode = COLOUR_SPACES.get(space, "")
    is_grey = image.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")
    if not mode or (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and not is_grey):
        return Colours(note=f"its colour profile {name} is for {space or 'other'} colours and not used")
    return _converted(profile, mode, name)


def _name(profile: Any) -> str:
    from PIL import ImageCms

    text = ""
    with suppress(ImageCms.PyCMSError, *DECODER_ERRORS):
        text = " ".join(ImageCms.getProfileDescription(profile).split())[:60]
    return f'"{text}"' if text else "without a name"


def _converted(profile: Any, mode: str, name: str) -> Colours:
    """The conversion from a profile; none where it changes nothing that could be seen."""
    from PIL import ImageCms

    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=intent, flags=flags
        )
        conversion = Conversion(transform, mode, name)
        if mode in ("RGB", "L") and _changes_nothing(conversion):
            return Colours()
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return Colours(note=f"its colour profile {name} can't be applied and is not used")
    return Colours(conversion, f"its colours are converted from {name} to sRGB")


def _changes_nothing(conversion: Conversion) -> bool:
    import numpy as np
    from PIL import Image

    if conversion.mode == "L":
        levels = np.arange(256, dtype=np.uint8)[None]
        before = np.repeat(levels[:, :, None], 3, axis=2)
    else:
        axis = np.linspace(0, 255, LATTICE).round().astype(np.uint8)
        before = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(1, -1, 3)
        levels = before
    after = np.asarray(conversion.apply(Image.fromarray(np.ascontiguousarray(levels))))
    return bool(np.abs(after.astype(int) - before).max() <= SAME_LEVELS)


def _of_png(image: Any) -> Colours:
    """By the chunks cHRM and gAMA (PNG specification, 11.3.2), which tell of a display, not of a profile."""
    gamma, primaries = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma is None and primaries is None:
        return Colours()
    usable = gamma is None or 0.1 <= gamma <= 5
    chromaticities = Chromaticities.of(primaries) if primaries else SRGB
    if not usable or chromaticities is None:
        return Colours(note="its gamma or its primaries (gAMA, cHRM) are impossible and not used")
    curve = GAMMA_SRGB if gamma is None or abs(gamma - SRGB_GAMMA) < 0.001 else 1 / gamma
    return _made(chromaticities, curve, "its gamma and primaries (gAMA, cHRM)")


def _of_exif(image: Any) -> Colours:
    """AdobeRGB as cameras mark it: by the interoperability index R03 (DCF 2.0)."""
    with suppress(*DECODER_ERRORS):
        if image.format in ("JPEG", "MPO") and image.getexif().get_ifd(INTEROPERABILITY).get(1) == "R03":
            return _made(ADOBE, 563 / 256, "AdobeRGB (by its EXIF data)")
    return Colours()


def _made(chromaticities: Chromaticities, curve: float, name: str) -> Colours:
    from PIL import ImageCms

    return _converted(ImageCms.ImageCmsProfile(io.BytesIO(matrix_profile(chromaticities, curve))), "RGB", name)
