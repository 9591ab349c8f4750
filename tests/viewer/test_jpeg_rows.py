"""JPEGs in strips: the pixels that Pillow reads at once; what has no strips is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.errors import ImageError
from linfusion_cli.viewer import jpeg_rows
from linfusion_cli.viewer.jpeg_rows import Strips, jpeg_strips, strips_in


def strips(path: Path) -> Strips:
    found = strips_in(path)
    assert found is not None
    return found


def stacked(path: Path) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(strip) for strip in jpeg_strips(path, strips(path))])


@pytest.mark.parametrize("piece_bytes", [7, 1 << 20])
@pytest.mark.parametrize(("subsampling", "mode", "apart"), [(0, "RGB", 0), (0, "L", 0), (2, "RGB", 8), (1, "RGB", 8)])
def test_strips_are_what_pillow_reads_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    photo: Any,
    subsampling: int,
    mode: str,
    apart: int,
    piece_bytes: int,
) -> None:
    monkeypatch.setattr(jpeg_rows, "PIECE_BYTES", piece_bytes)
    image = Image.fromarray(photo).convert(mode)
    image.save(tmp_path / "x.jpg", quality=90, subsampling=subsampling, restart_marker_rows=1)
    found, whole = stacked(tmp_path / "x.jpg"), np.asarray(Image.open(tmp_path / "x.jpg"))
    assert found.shape == whole.shape
    # where colours are subsampled, they are smoothed across the edge of a strip in the whole image alone
    assert np.abs(found.astype(int) - whole).max() <= apart


@pytest.mark.parametrize("options", [{}, {"progressive": True, "restart_marker_rows": 1}, {"restart_marker_blocks": 5}])
def test_other_jpegs_have_no_strips(tmp_path: Path, photo: Any, options: dict[str, Any]) -> None:
    Image.fromarray(photo).save(tmp_path / "x.jpg", **options)
    assert strips_in(tmp_path / "x.jpg") is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x04ab", b"\xff\xd8" + b"\xff\xdd\x00\x04\0\1" * 9]
)
def test_broken_headers_have_no_strips(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(data)
    assert strips_in(tmp_path / "x.jpg") is None


def test_a_file_that_is_cut_short_is_told(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.jpg", subsampling=0, restart_marker_rows=1)
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="is cut short: it lacks"):
        stacked(tmp_path / "x.jpg")
