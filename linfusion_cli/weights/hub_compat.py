"""Every touch of huggingface_hub that is not its plain public API, in one place.

tests/weights/test_hub_compat.py holds a contract for each symbol, so that a new release that changes one fails a test
with the symbol's name. Written against huggingface_hub 2.4. Imports are local: they cost a second that no help text
needs.
"""

from __future__ import annotations

from typing import BinaryIO
from urllib.parse import urlsplit


def transport_errors() -> tuple[type[Exception], ...]:
    """What a connection that fails raises inside huggingface_hub."""
    import httpx2

    return (httpx2.TransportError, ConnectionError, TimeoutError)


def file_location(repository: str, name: str, revision: str) -> tuple[str, dict[str, str]]:
    """The address that holds a file's bytes, and the headers of a request for it.

    The token goes to the hub alone: the storage behind it has signed addresses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(repository, name, revision=revision or None)
    location = get_hf_file_metadata(url).location
    headers = build_hf_headers()
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    return location, headers


def download(location: str, headers: dict[str, str], file: BinaryIO, size_bytes: int, name: str) -> None:
    """Appends a file's bytes to those that an open file holds; `size_bytes` is the whole size, `name` is displayed."""
    from huggingface_hub.file_download import http_get

    done = file.seek(0, 2)
    http_get(location, file, resume_size=done, headers=headers, expected_size=size_bytes, displayed_filename=name)
