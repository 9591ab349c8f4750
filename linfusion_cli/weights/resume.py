"""A large file into the hub's cache, going on where an interrupted download stopped: huggingface_hub 2 always starts again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from linfusion_cli.errors import BusyError
from linfusion_cli.weights.places import HubPlace, cache_folder


def complete_blob(hub: HubPlace, name: str, sha256: str, size_bytes: int) -> None:
    """Makes the cache hold the blob of a file, under the name of its published hash; what it holds is not checked here.

    An interrupted download leaves a .part file, which the next one completes. Raises BusyError if another process is at it,
    and whatever huggingface_hub raises for a connection that fails.
    """
    from filelock import FileLock, Timeout
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    blob = cache_folder() / f"models--{hub.repository.replace('/', '--')}" / "blobs" / sha256
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{sha256}.part")
    url = hf_hub_url(hub.repository, name, revision=hub.revision or None)
    location = get_hf_file_metadata(url).location
    headers = build_hf_headers()
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the storage behind the hub has signed addresses, and no business with the token
    try:
        with FileLock(blob.with_name(f"{sha256}.lock"), timeout=0), part.open("ab", buffering=0) as file:
            done = part.stat().st_size
            if done > size_bytes:
                file.truncate(0)
                done = 0
            http_get(location, file, resume_size=done, headers=headers, expected_size=size_bytes, displayed_filename=Path(name).name)
    except Timeout as error:
        raise BusyError(f"{hub}: another process downloads {name}. Wait for it") from error
    part.replace(blob)
