"""TIFFs in rows of tiles or strips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.errors import ImageError
from linfusion_cli.viewer.tiff_rows import can_stream, tiff_rows

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")


@pytest.mark.parametrize(
    "layout", [{"tile": (64, 64)}, {"rowsperstrip": 10}, {"tile": (64, 64), "compression": "zstd"}]
)
@pytest.mark.parametrize("kind", ["rgb8", "rgb16", "grey8"])
def test_rows_are_the_image_s(tmp_path: Path, photo: Any, layout: dict[str, Any], kind: str) -> None:
    image = photo[:, :, 0] if kind == "grey8" else photo
    stored = image.astype(np.uint16) * 257 if kind == "rgb16" else image
    photometric = "minisblack" if kind == "grey8" else "rgb"
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=photometric, **layout)
    assert can_stream(tmp_path / "x.tif")
    bands = list(tiff_rows(tmp_path / "x.tif"))
    expected = np.repeat(image[:, :, None], 3, axis=2) if kind == "grey8" else image
    assert np.array_equal(np.concatenate(bands), expected)
    assert len(bands) > 3


def test_others_do_not_stream(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.tif")
    (tmp_path / "no.tif").write_bytes(b"II*\0" + bytes(20))
    tifffile.imwrite(tmp_path / "planes.tif", photo.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    for name in ("cmyk.tif", "no.tif", "planes.tif", "nowhere.tif"):
        assert not can_stream(tmp_path / name)


def test_damage_is_told(tmp_path: Path, photo: Any) -> None:
    tifffile.imwrite(tmp_path / "x.tif", photo, photometric="rgb", tile=(64, 64), compression="zlib")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(ImageError, match="is damaged"):
        list(tiff_rows(tmp_path / "x.tif"))
