"""One contract for each symbol of huggingface_hub that hub_compat touches."""

import inspect
import io
from typing import Any

import pytest

from linfusion_cli.weights import hub_compat


def test_http_get_resumes() -> None:
    from huggingface_hub.file_download import http_get

    parameters = inspect.signature(http_get).parameters
    assert {"resume_size", "headers", "expected_size", "displayed_filename"} <= set(parameters)


def test_build_hf_headers_names_the_token_authorization() -> None:
    from huggingface_hub.utils._headers import build_hf_headers

    assert build_hf_headers(token="hf_abcdefgh")["authorization"] == "Bearer hf_abcdefgh"


def test_get_hf_file_metadata_says_the_location() -> None:
    from huggingface_hub import HfFileMetadata, get_hf_file_metadata

    assert "location" in HfFileMetadata.__annotations__
    assert next(iter(inspect.signature(get_hf_file_metadata).parameters)) == "url"


def test_httpx2_is_what_huggingface_hub_connects_with() -> None:
    import httpx2
    from huggingface_hub import get_session

    assert isinstance(get_session(), httpx2.Client)
    assert httpx2.TransportError in hub_compat.transport_errors()


@pytest.mark.parametrize(("host", "kept"), [("https://storage.example/blob", False), ("", True)])
def test_the_token_goes_to_the_hub_alone(monkeypatch: pytest.MonkeyPatch, host: str, kept: bool) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")

    def found(url: str) -> Any:
        from huggingface_hub import HfFileMetadata

        return HfFileMetadata(commit_hash="", etag="", location=host or url, size=1, xet_file_data=None)

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", found)
    _, headers = hub_compat.file_location("owner/name", "file.safetensors", "")
    assert ("authorization" in headers) is kept


def test_download_resumes_after_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("huggingface_hub.file_download.http_get", lambda *_, **options: asked.update(options))
    file = io.BytesIO(b"seven b")
    hub_compat.download("https://example/blob", {}, file, 20, "a")
    assert (asked["resume_size"], asked["expected_size"], file.tell()) == (7, 20, 7)
