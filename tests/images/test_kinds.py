import pytest

from linfusion_cli.images.kinds import format_of, name_of


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n<html lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"%PDF-1.7", "PDF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG"),
        (b"II*\0\x10\0\0\0CR\x02\0", "RAW"),
        (b"\0\0\0\x18ftypcrx ", "RAW"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b'{"a": 1}', "JSON"),
        (b"hello", "a text"),
        (b"\0\1\2", "not known"),
    ],
)
def test_what_is_no_image_is_named(head: bytes, name: str) -> None:
    assert name in name_of(head)
    assert format_of(head) == ""


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
    ],
)
def test_formats_are_known_by_what_they_hold(head: bytes, name: str) -> None:
    assert format_of(head) == name
