"""A damaged file is told from a whole one without trust in its name."""

from pathlib import Path

import pytest

from linfusion_cli.errors import OutputError
from linfusion_cli.output.formats.check import check, has_ends


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif", "a.jxl", "a.dzi", "a"])
def test_bytes_of_no_image_are_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"no image")
    with pytest.raises(OutputError):
        check(path)
    path.write_bytes(b"")
    assert not has_ends(str(path))
    assert not has_ends(str(tmp_path / "missing.png"))
