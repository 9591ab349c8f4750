"""Images in the terminal, as escape sequences of the three protocols: kitty's, iTerm2's, and sixels."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from linfusion_cli.events import PreviewMade

KITTY, ITERM, SIXEL = "kitty", "iTerm2", "sixel"
COLUMNS = 48  # of text that an image is wide, where the protocol can say so
KITTY_PIECE = 4096  # characters of an escape sequence
SIXEL_COLORS = 128
# By TERM or TERM_PROGRAM, as the terminals' own pages say which protocol they draw.
_BY_PROGRAM = {"iTerm.app": ITERM, "WezTerm": ITERM, "mintty": ITERM, "ghostty": KITTY, "rio": KITTY}
_SIXEL_TERMS = ("foot", "mlterm", "yaft", "contour")
_BY_TERM = {"xterm-kitty": KITTY, "xterm-ghostty": KITTY, **dict.fromkeys(_SIXEL_TERMS, SIXEL)}
_BY_VARIABLE = {"KITTY_WINDOW_ID": KITTY, "GHOSTTY_RESOURCES_DIR": KITTY, "KONSOLE_VERSION": KITTY}
_INSIDE = {"TMUX": "tmux", "STY": "screen"}  # these take the sequences for themselves


def protocol_of(environment: Mapping[str, str]) -> str:
    """The image protocol of the terminal, by its environment variables; "" if it is not known to have one."""
    if any(environment.get(name) for name in _INSIDE):
        return ""
    term = environment.get("TERM", "")
    if "sixel" in term:
        return SIXEL
    named = _BY_TERM.get(term) or _BY_TERM.get(term.partition("-")[0])
    found = named or _BY_PROGRAM.get(environment.get("TERM_PROGRAM", ""))
    return found or next((kind for name, kind in _BY_VARIABLE.items() if environment.get(name)), "")


def require_protocol(environment: Mapping[str, str], *, terminal: bool) -> str:
    """The terminal's protocol. Raises UsageError where stderr is no terminal, or none that is known to show images."""
    inside = next((name for variable, name in _INSIDE.items() if environment.get(variable)), "")
    reason = f'the terminal "{environment.get("TERM", "")}" is not known to show images'
    if inside:
        reason = f"inside {inside} no images are shown"
    if not terminal:
        reason = "stderr is not a terminal"
    protocol = protocol_of(environment) if terminal else ""
    if not protocol:
        raise UsageError(f'"-": {reason}. Name a file, and open it in a viewer: preview.jpg', parameter="preview")
    return protocol


def shown(preview: PreviewMade, protocol: str) -> str:
    """The escape sequence that draws a preview at the cursor, and a line feed."""
    from linfusion_cli.output.preview_file import enlarged, jpeg_of

    if protocol == KITTY:
        return f"{_kitty(enlarged(preview))}\n"
    if protocol == ITERM:
        return f"{_iterm(jpeg_of(preview))}\n"
    return f"{sixels(enlarged(preview))}\n"


def _kitty(image: Image) -> str:
    """a=T: transmit and show; f=24: RGB; o=z: deflated; q=2: no answer, which would look like typed text."""
    text = base64.b64encode(zlib.compress(image.tobytes())).decode("ascii")
    pieces = [text[start : start + KITTY_PIECE] for start in range(0, len(text), KITTY_PIECE)]
    keys = f"a=T,f=24,o=z,q=2,s={image.width},v={image.height},c={COLUMNS},"
    sequences = []
    for number, piece in enumerate(pieces):
        more = int(number < len(pieces) - 1)
        sequences.append(f"\x1b_G{keys if number == 0 else ''}m={more};{piece}\x1b\\")
    return "".join(sequences)


def _iterm(jpeg: bytes) -> str:
    text = base64.b64encode(jpeg).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(jpeg)};width={COLUMNS};preserveAspectRatio=1:{text}\a"


def sixels(image: Image) -> str:
    """An RGB image as sixels: for each six rows and each colour in them one line of characters, runs counted."""
    import numpy as np

    drawn = image.quantize(SIXEL_COLORS)
    palette = np.reshape(drawn.getpalette("RGB") or [], (-1, 3)) * 100 // 255
    found = [f'\x1bP0;1q"1;1;{image.width};{image.height}']
    found += [f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(palette)]
    indices = np.asarray(drawn)
    for top in range(0, image.height, 6):
        band = indices[top : top + 6]
        bits = 1 << np.arange(len(band))[:, None]
        for color in np.unique(band):
            letters = ((band == color) * bits).sum(0) + 63
            found.append(f"#{color}{_runs(letters.astype(np.uint8).tobytes().decode('ascii'))}$")
        found.append("-")
    return "".join([*found, "\x1b\\"])


def _runs(letters: str) -> str:
    """Letters with the runs of more than three counted: "!12?"."""
    runs = [(letter, len(list(same))) for letter, same in groupby(letters)]
    return "".join(f"!{count}{letter}" if count > 3 else letter * count for letter, count in runs)
