"""No token and no password is shown; what only looks a little like one stays."""

import pytest

from linfusion_cli.redaction import redacted


@pytest.mark.parametrize(
    "text",
    [
        "401 with hf_{}, sorry",
        '{{"error": "hf_{}"}}',
        "https://me:{}@host/x",
        "https://{}@host/x",
        "token=hf_oauth_{}.x-y",
        "Authorization: Bearer hf_{}",
        "key sk-{}",
        "ghp_{}",
    ],
)
def test_secrets_are_left_out(text: str) -> None:
    secret = "abcDEF123ghiJKL456mnoPQR789stuVWX0"
    shown = redacted(text.format(secret))
    assert secret not in shown
    assert shown.count("[secret]") == 1


@pytest.mark.parametrize(
    "text",
    [
        "/data/hf_downloads/x.png",
        "shelf_abcdefghijklmnopqrstuvwxyz",
        "me@host",
        "https://host/path@1",
        '{"site": "https://host","mail": "me@host"}',
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text
