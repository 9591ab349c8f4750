"""hatchling's hook: the README of the package page, where links into the repository lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

IMAGE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    """Sets the readme of the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """hatchling calls it with the metadata, which it changes in place."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": package_readme(text)}


def package_readme(text: str) -> str:
    """The README with images of the repository left out, and names of its files in place of links to them."""
    return LINK.sub(_named, IMAGE.sub("", text))


def _named(link: re.Match[str]) -> str:
    text, path = link[1], link[2]
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
