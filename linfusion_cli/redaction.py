"""Removes what opens an account from texts that are shown, logged or stored."""

from __future__ import annotations

import re

# Access tokens of the Hugging Face hub ("hf_" and 34 letters and digits; sixteen, so that "hf_downloads" in a path
# stays), and the user and the password in front of the host of an address.
_SECRETS = re.compile(
    r"(?<![A-Za-z0-9])hf_(?:(?:oauth|jwt)_[\w.-]{16,}|[A-Za-z0-9]{16,})" r'|(?<=://)[^/\s@"]+@', re.ASCII
)


def redacted(text: str) -> str:
    """The text with "[secret]" for every token of the hub and for the user and the password in an address."""
    return _SECRETS.sub("[secret]", text)
