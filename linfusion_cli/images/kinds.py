"""Names what a file is by its first bytes, so that a message can say more than "not an image"."""

from __future__ import annotations

import re

HEAD_BYTES = 4096
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "GIF", "BMP", "HEIF", "JXL")  # as Pillow and its plugins name them
ALLOWED = "PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, HEIC and JPEG XL"
PLUGINS = {  # format -> the module that reads it, and the extra that brings the module
    "HEIF": ("pillow_heif", "heic"),
    "JXL": ("pillow_jxl", "jxl"),
}
_NAMES = {
    "PNG": "a PNG image",
    "JPEG": "a JPEG image",
    "WEBP": "a WebP image",
    "TIFF": "a TIFF image",
    "AVIF": "an AVIF image",
    "GIF": "a GIF image",
    "BMP": "a BMP image",
    "HEIF": "a HEIC image",
    "JXL": "a JPEG XL image",
}
_FORMAT_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHERS = (
    (b"%PDF", "a PDF document. Export its page as PNG first"),
    (b"%!PS", "a PostScript document. Export it as PNG first"),
    (b"8BPS", "a Photoshop document. Export it as PNG or TIFF first"),
    (b"gimp xcf", "a GIMP document. Export it as PNG first"),
    (b"v/1\x01", "an OpenEXR image. Export it as a 16-bit PNG or TIFF first"),
    (b"#?RADIANCE", "a Radiance HDR image. Export it as a 16-bit PNG or TIFF first"),
    (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 image. Save it as PNG first"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image. Save it as PNG first"),
    (b"FUJIFILMCCD-RAW", "a RAW photo of a camera. Develop it to TIFF or JPEG first"),
    (b"IIRO", "a RAW photo of a camera. Develop it to TIFF or JPEG first"),
    (b"IIRS", "a RAW photo of a camera. Develop it to TIFF or JPEG first"),
    (b"IIU\0", "a RAW photo of a camera. Develop it to TIFF or JPEG first"),
    (b"FOVb", "a RAW photo of a camera. Develop it to TIFF or JPEG first"),
    (b"PK\x03\x04", "a ZIP archive. Unpack it first"),
    (b"\x1f\x8b", "a gzip archive. Unpack it first"),
    (b"Rar!", "a RAR archive. Unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive. Unpack it first"),
    (b"\x1aE\xdf\xa3", "a video. Save one of its frames as PNG first"),
    (
        b"version https://git-lfs.github.com/spec",
        "a Git LFS pointer, not the image itself. Fetch it with: git lfs pull",
    ),
)
_RAW_TIFF = (b"CR\x02\0", b"HEAPCCDR")  # Canon, behind the eight bytes of the TIFF header


def format_of(head: bytes) -> str:
    """The format of FORMATS that a file's first HEAD_BYTES say, "" for any other."""
    for signature, name in _FORMAT_SIGNATURES:
        if head.startswith(signature):
            return name if not (name == "TIFF" and head[8:].startswith(_RAW_TIFF)) else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(12, min(int.from_bytes(head[:4], "big"), HEAD_BYTES))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if any(brand in brands for brand in _HEIF_BRANDS) else ""
    return ""


def name_of(head: bytes) -> str:
    """What a file is, with its article, and what to do with it: "a PDF document. Export its page as PNG first"."""
    if name := format_of(head):
        return _NAMES[name]
    if known := next((name for signature, name in _OTHERS if head.startswith(signature)), ""):
        return known
    if head[4:8] == b"ftyp":
        return _of_container(head[8:12])
    return _of_text(head)


def _of_container(brand: bytes) -> str:
    if brand == b"crx ":
        return "a RAW photo of a camera. Develop it to TIFF or JPEG first"
    return "a video. Save one of its frames as PNG first"


def _of_text(head: bytes) -> str:
    if head[8:].startswith(_RAW_TIFF):
        return "a RAW photo of a camera. Develop it to TIFF or JPEG first"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1024].lower()
    if re.match(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg", start, re.DOTALL):
        return "an SVG drawing. Export it as PNG first"
    if re.match(rb"(<!--.*?-->\s*)*<(!doctype html|html|head|body)", start, re.DOTALL):
        return "a web page (HTML), not the image itself. Download the image that the page shows"
    if start[:1] in (b"{", b"[") and b"\0" not in head:
        return "a JSON text"
    if head and b"\0" not in head and not re.search(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]", head):
        return "a text"
    return "of a kind that is not known"
