"""The file of `preview`: a small JPEG that is replaced as the steps go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from linfusion_cli.errors import Message, option
from linfusion_cli.events import Note, Notify, PreviewMade
from linfusion_cli.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITY = 85
SHOWN_PX = 384  # a smaller preview is enlarged to about this, so that it can be seen


class PreviewFile:
    """Writes previews to `path`; nothing if it is None.

    A preview that can't be written is told through `notify`, once, and the render goes on; the next one is tried again.
    """

    def __init__(self, path: Path | None, notify: Notify) -> None:
        self._path, self._notify, self._told = path, notify, False

    def add(self, preview: PreviewMade) -> None:
        """Replaces the file: a reader finds the old preview or the new one, whole."""
        if self._path is None:
            return
        try:
            write_atomically(self._path, jpeg_of(preview), durable=False)
        except OSError as error:
            if not self._told:
                self._told = True
                reason = error.strerror or str(error)
                text = f" {self._path}: can't be written ({reason}); the image is made all the same"
                self._notify(Note(text=Message(option("preview"), text)))


def enlarged(preview: PreviewMade) -> Image:
    """The preview in RGB, a small one enlarged by a whole number to about SHOWN_PX on its longer side."""
    from PIL import Image

    image = Image.frombytes("RGB", (preview.width, preview.height), preview.rgb)
    factor = SHOWN_PX // max(image.size)
    if factor < 2:
        return image
    return image.resize((preview.width * factor, preview.height * factor), Image.Resampling.BICUBIC)


def jpeg_of(preview: PreviewMade) -> bytes:
    """The preview as the bytes of a JPEG."""
    data = io.BytesIO()
    enlarged(preview).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
