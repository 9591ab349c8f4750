"""Links that people paste as a location of weights: those of the hub become its names, others get advice."""

from __future__ import annotations

import re
import shlex
from urllib.parse import unquote, urlsplit

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com")
SCHEME = re.compile(r"(https?|hf|s3|gs|ftp)://", re.IGNORECASE)
PARTS_OF_A_FILE = 2  # of a link: "resolve" or "blob" or "tree", and the revision
OTHER_KINDS = ("datasets", "spaces", "models", "docs", "collections", "papers", "blog", "api")


def is_link(location: str) -> bool:
    """Whether it is a URL, or a page of a known site without its scheme ("huggingface.co/owner/name")."""
    return bool(SCHEME.match(location)) or location.split("/")[0].lower() in (*HUB_HOSTS, "civitai.com")


def hub_name(link: str) -> str:
    """The hub's name in a link to it: "owner/name", with "@revision" and "/folder/file" if the link has them.

    "" for a link to elsewhere, or to no repository of models. Of https://huggingface.co/o/n/resolve/main/a.safetensors
    it is "o/n/a.safetensors@main".
    """
    scheme = SCHEME.match(link)
    if scheme and scheme[1].lower() == "hf":
        return link[scheme.end() :].strip("/")
    parts = urlsplit(link if scheme else f"https://{link}")
    if (parts.hostname or "") not in HUB_HOSTS:
        return ""
    words = [unquote(word) for word in parts.path.split("/") if word]
    if len(words) < 2 or words[0] in OTHER_KINDS:
        return ""
    owner, name, *rest = words
    if rest and rest[0] in ("tree", "blob", "resolve", "raw") and len(rest) >= PARTS_OF_A_FILE:
        inside = "".join(f"/{word}" for word in rest[PARTS_OF_A_FILE:])
        return f"{owner}/{name}{inside}@{rest[1]}"
    return f"{owner}/{name}"


def advice(link: str) -> str:
    """What to do with a link that no weights can be taken from: a sentence."""
    host = (urlsplit(link if SCHEME.match(link) else f"https://{link}").hostname or "").removeprefix("www.")
    if host == "civitai.com":
        return "civitai.com asks for a login: download the file there (SafeTensor), then name the file"
    if host in HUB_HOSTS:
        return f"it is not the repository of a model. Allowed: https://{host}/OWNER/NAME, or OWNER/NAME"
    return f"only links to huggingface.co are read. Download it, then name the file: curl -LO {shlex.quote(link)}"
