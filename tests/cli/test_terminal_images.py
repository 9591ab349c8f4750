"""Images in the terminal: which protocol, and that what it would decode is the image."""

from __future__ import annotations

import base64
import io
import re
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.terminal_images import protocol_of, require_protocol, shown, sixels
from linfusion_cli.errors import UsageError
from linfusion_cli.events import PreviewMade


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230804"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iTerm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iTerm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, ""),
        ({"TERM": "screen-256color", "TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, ""),
        ({}, ""),
    ],
)
def test_a_terminal_is_known_by_its_variables(environment: dict[str, str], protocol: str) -> None:
    assert protocol_of(environment) == protocol


@pytest.mark.parametrize(
    ("environment", "terminal", "reason"),
    [
        ({"TERM": "linux"}, True, 'the terminal "linux" is not known to show images'),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, True, "inside tmux no images are shown"),
        ({"TERM": "xterm-kitty"}, False, "stderr is not a terminal"),
    ],
)
def test_others_are_refused_with_the_reason(environment: dict[str, str], terminal: bool, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_protocol(environment, terminal=terminal)
    assert told(caught.value) == f'--preview "-": {reason}. Name a file, and open it in a viewer: preview.jpg'


def picture(width: int, height: int) -> PreviewMade:
    ramp = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3) * 7 % 256
    rgb = ramp.astype(np.uint8).tobytes()
    return PreviewMade(stage=0, done=1, total=1, width=width, height=height, rgb=rgb)


def test_kitty_gets_the_pixels_in_pieces_that_it_allows() -> None:
    sequence = shown(picture(400, 50), "kitty")
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sequence)
    keys = dict(pair.split("=") for pair in pieces[0][0].split(","))
    assert (keys["a"], keys["f"], keys["s"], keys["v"], keys["q"]) == ("T", "24", "400", "50", "2")
    assert max(len(data) for _, data in pieces) <= 4096
    assert [keys[-1] for keys, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    data = zlib.decompress(base64.b64decode("".join(data for _, data in pieces)))
    assert data == picture(400, 50).rgb


def test_iterm_gets_a_jpeg() -> None:
    sequence = shown(picture(400, 50), "iTerm2")
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);width=\d+;preserveAspectRatio=1:(.*)\x07\n", sequence)
    assert found
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    assert Image.open(io.BytesIO(data)).size == (400, 50)


def drawn(sequence: str) -> np.ndarray[Any, Any]:
    """What a terminal draws of sixels: a decoder of its own."""
    body = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', sequence, re.DOTALL)
    assert body
    canvas = np.zeros((int(body[2]) + 5, int(body[1]), 3))
    palette: dict[int, list[int]] = {}
    color, left, top = 0, 0, 0
    for part in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|(\$)|(-)", body[3]):
        if part[1]:
            palette[int(part[1])] = [int(part[i]) for i in (2, 3, 4)]
        elif part[5]:
            color = int(part[5])
        elif part[9]:
            left = 0
        elif part[10]:
            left, top = 0, top + 6
        else:
            bits, count = ord(part[7] or part[8]) - 63, int(part[6] or 1)
            for row in range(6):
                if bits >> row & 1:
                    canvas[top + row, left : left + count] = palette[color]
            left += count
    return canvas[: int(body[2])] * 2.55


@pytest.mark.parametrize("sides", [(40, 13), (1, 1), (7, 6)])
def test_sixels_draw_the_image(sides: tuple[int, int]) -> None:
    width, height = sides
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2 + 1, :, 0], pixels[:, width // 2 :, 2] = 255, 102
    assert np.abs(drawn(sixels(Image.fromarray(pixels))) - pixels).max() <= 3
