"""Every size that upscale offers is accepted when it is typed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError


@pytest.mark.slow
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_a_nearest_size_is_accepted(width: int, height: int, wide: int, high: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        Image.new("L", (width, height)).save(path)
        request = Request(prompt="a lake", upscale_image=path, size=f"{8 * wide}x{8 * high}", seed=1)
        try:
            resolve(request)
        except UsageError as error:
            offered = str(error).rpartition("Nearest: ")[2]
            assert offered.startswith('size="')
            resolve(Request(prompt="a lake", upscale_image=path, size=offered[6:-1], seed=1))
