"""The one error of this room; input_image.py turns it into a UsageError that names the option and the file."""

from __future__ import annotations

import struct
import zlib

# What Pillow and its plugins raise for files that are damaged or of a kind that they do not know.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class ImageError(Exception):
    """Why a file can't be used as an image, as the rest of a sentence that starts with the file's name."""
