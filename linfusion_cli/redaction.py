"""Removes what opens an account from texts that are shown, logged or stored."""

from __future__ import annotations

import re

SECRET = "[secret]"  # what stands in the place of one
# Access tokens of OpenAI, GitHub, AWS and the Hugging Face hub ("hf_" and 34 letters and digits; sixteen, so that
# "hf_downloads" in a path stays), and the user and the password in front of the host of an address.
_SECRETS = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_(?:(?:oauth|jwt)_[\w.-]{16,}|[A-Za-z0-9]{16,})"
    r"|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[A-Z0-9]{16}(?![A-Za-z0-9]))"
    r'|(?<=://)[^/\s@"]+@',
    re.ASCII,
)


def redacted(text: str) -> str:
    """The text with "[secret]" for access tokens of known forms, and for the user and the password in an address."""
    return _SECRETS.sub(SECRET, text)
