"""What a format can't hold is refused by name, before any work, with one that can."""

import re
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.errors import UsageError
from linfusion_cli.file_formats import BY_NAME, FORMATS, FileSettings, file_settings, format_of_ending
from linfusion_cli.geometry import Size

SMALL = Size(64, 64)


def test_endings_are_of_one_format_each() -> None:
    endings = [ending for one in FORMATS for ending in one.endings]
    assert len(endings) == len(set(endings))
    assert all(format_of_ending(ending.upper()) is one for one in FORMATS for ending in one.endings)
    assert format_of_ending(".gif") is None


@pytest.mark.parametrize(
    ("name", "size", "limit"), [("jpeg", Size(65544, 8), "65535"), ("webp", Size(8, 16384), "16383")]
)
def test_too_large_sizes_are_refused_with_a_format_that_holds_them(name: str, size: Size, limit: str) -> None:
    with pytest.raises(UsageError, match=f"{size}: .* at most {limit} pixels a side. Nearest: format=") as caught:
        file_settings(BY_NAME[name], {}, size)
    offered = str(caught.value).split('format="')[1].split('"')[0]
    assert file_settings(BY_NAME[offered], {}, size).format.name == offered


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("jpeg", {"bits": 16}),
        ("webp", {"bits": 16}),
        ("png", {"quality": 90}),
        ("tiff", {"quality": 90}),
        ("webp", {"quality": 90, "lossless": True}),
        ("jpeg", {"lossless": True}),
        ("avif", {"lossless": True}),
        ("png", {"lossless": False}),
        ("dzi", {"dpi": 300}),
        ("jxl", {"color_profile": "display-p3"}),
        ("png", {"tiff_compression": "zstd"}),
        ("jpeg", {"pyramid": True}),
    ],
)
def test_what_a_format_lacks_is_refused_and_the_format_offered_has_it(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Nearest: leave it out, or format=") as caught:
        file_settings(BY_NAME[name], given, SMALL)
    assert caught.value.parameter in given
    assert re.search(r"(\d+|zstd|display-p3|is of no use|can't be off): ", str(caught.value)), "the value given"
    offered = str(caught.value).split('format="')[1].split('"')[0]
    rest = {key: value for key, value in given.items() if key == caught.value.parameter}
    assert file_settings(BY_NAME[offered], rest, SMALL).format.name == offered
    with pytest.raises(UsageError) as by_ending:  # a format beside an ending of another would be refused
        file_settings(BY_NAME[name], given, SMALL, f"a.b{BY_NAME[name].endings[0]}")
    assert f'output="a.b{BY_NAME[offered].endings[0]}"' in str(by_ending.value)


def test_what_is_given_is_used() -> None:
    given = {"bits": 16, "dpi": 300, "color_profile": "display-p3", "tiff_compression": "zstd", "pyramid": True}
    made = file_settings(BY_NAME["tiff"], given, SMALL)
    assert made == FileSettings(
        format=BY_NAME["tiff"], bits=16, dpi=300, color_profile="display-p3", tiff_compression="zstd", pyramid=True
    )
    assert made.row_bits == 16


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'tifffile, imagecodecs: pip install "linfusion-cli\[tiff\]"'):
        file_settings(BY_NAME["tiff"], {}, SMALL)


def test_the_page_of_formats_says_what_they_hold() -> None:
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    told = {cells[1]: cells for cells in rows if cells[1].startswith("`.")}
    assert len(told) == len(FORMATS)
    for one in FORMATS:
        cells = told[", ".join(f"`{ending}`" for ending in one.endings)]
        assert cells[2] == f"{one.largest_side_px:,}"
        assert cells[3] == ", ".join(map(str, one.bits))
        assert cells[4].split()[0] == {"always": "never", "never": "always", "choice": "unless"}[one.lossless]
        assert (cells[5] == "rows") == one.streams
        per_px = dict.fromkeys(filter(None, (one.held_bytes_per_px, one.held_lossless_bytes_per_px)))
        assert all(f"{value:.0f}" in cells[5] for value in per_px)
        assert one.extra in cells[6]
