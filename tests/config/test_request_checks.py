from __future__ import annotations

import re
from pathlib import Path

import pytest

from linfusion_cli.config.options import by_key
from linfusion_cli.config.request_checks import (
    checked_choice,
    checked_device,
    checked_number,
    checked_preview,
    checked_text,
    parse_bytes,
)
from linfusion_cli.errors import UsageError


@pytest.mark.parametrize("key", [row.key for row in by_key().values() if row.range and not row.preset_key])
def test_numbers_beyond_their_row_s_range_name_the_nearest(key: str) -> None:
    allowed = by_key()[key].range
    assert allowed is not None
    assert checked_number(key, allowed.high) == allowed.high
    with pytest.raises(UsageError, match=f"^{key} .* Nearest: {allowed.nearest(allowed.high + 1)}$"):
        checked_number(key, allowed.high + 1)


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:7"])
def test_devices(device: str) -> None:
    assert checked_device(device) == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f'device "{device}": write one of auto, cpu, cuda')):
        checked_device(device)


def test_a_word_that_is_no_choice_names_all_and_the_closest() -> None:
    assert checked_choice("dtype", "float16") == "float16"
    with pytest.raises(UsageError, match=r'dtype "float1": write one of auto, .*float32. Did you mean "float16"'):
        checked_choice("dtype", "float1")


def test_texts_lose_the_space_around_them_and_have_a_limit() -> None:
    assert checked_text(" a lake\n", "the prompt", weights=False) == "a lake"
    assert checked_text("a \udcc3\udca2", "the prompt", weights=False) == "a â", "as Python reads UTF-8 with LANG=C"
    with pytest.raises(UsageError, match="the prompt has 65537 bytes: at most 65536"):
        checked_text("x" * 65537, "the prompt", weights=False)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("6GB", 6 * 10**9), ("800MiB", 800 * 2**20), ("1.5G", 15 * 10**8), ("6 gb", 6 * 10**9), (".5k", 500)],
)
def test_memory_is_read_with_its_unit(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "6", "0", "0GB", "-6GB", "6XB", "GB", "1e9", "six"])
def test_memory_without_a_unit_or_a_sense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="6GB"):
        parse_bytes(text)


def test_previews_are_jpegs_that_replace_no_image() -> None:
    assert checked_preview(None, None) == (None, 0)
    assert checked_preview(Path("-"), None) == (Path("-"), 0)
    assert checked_preview(Path("a/P.JPEG"), 3, [Path("a/p.png")]) == (Path("a/P.JPEG"), 3)


@pytest.mark.parametrize(
    ("name", "every", "message"),
    [
        ("p.png", None, 'preview "p.png": a preview is a JPEG file, or - for the terminal. Nearest: p.jpg'),
        ("", None, 'preview ".": a preview is a JPEG file, or - for the terminal. Nearest: preview.jpg'),
        ("lake.jpg", 2, 'preview "lake.jpg": it is the image, or one that it is made from. Nearest: lake-preview.jpg'),
        (None, 2, "preview_every says how often preview is made: give both"),
        ("p.jpg", 0, "preview_every 0: write a whole number from 1 to 500. Nearest: 1"),
    ],
)
def test_other_previews_are_refused(name: str | None, every: int | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_preview(None if name is None else Path(name), every, [Path("./lake.jpg").absolute()])
    assert str(caught.value) == message
