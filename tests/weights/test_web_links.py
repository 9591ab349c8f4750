"""Links that people paste: the hub's become names, others get advice that works."""

import pytest

from linfusion_cli.weights.locate import HubLocation, missing
from linfusion_cli.weights.web_links import hub_name, is_link

HUB = "https://huggingface.co"


@pytest.mark.parametrize(
    ("link", "name"),
    [
        (f"{HUB}/owner/name", "owner/name"),
        (f"{HUB}/owner/name/", "owner/name"),
        (f"{HUB}/owner/name/tree/main", "owner/name@main"),
        (f"{HUB}/owner/name/tree/fp16/unet", "owner/name/unet@fp16"),
        (f"{HUB}/owner/name/blob/main/a.safetensors", "owner/name/a.safetensors@main"),
        (f"{HUB}/owner/name/resolve/main/a/b.safetensors?download=true", "owner/name/a/b.safetensors@main"),
        (f"{HUB}/owner/name/tree/refs%2Fpr%2F1", "owner/name@refs/pr/1"),
        (f"{HUB}/owner/name/discussions", "owner/name"),
        ("huggingface.co/owner/name", "owner/name"),
        ("http://hf.co/owner/name", "owner/name"),
        ("hf://owner/name/a.safetensors", "owner/name/a.safetensors"),
        (f"{HUB}/datasets/owner/name", ""),
        (f"{HUB}/owner", ""),
        ("https://civitai.com/models/1", ""),
        ("https://example.com/owner/name", ""),
    ],
)
@pytest.mark.covers("links to huggingface.co", "used")
def test_the_name_in_a_link(link: str, name: str) -> None:
    assert is_link(link)
    assert hub_name(link) == name
    assert HubLocation.parse(link) == (HubLocation.parse(name) if name else None)


@pytest.mark.parametrize("location", ["owner/name", "model.safetensors", "/a/b", "civitai/file.safetensors", "a:0.8"])
def test_what_is_no_link(location: str) -> None:
    assert not is_link(location)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("https://civitai.com/models/1", "download the file there"),
        ("civitai.com/models/1", "download the file there"),
        ("https://example.com/a.safetensors", "curl -LO https://example.com/a.safetensors"),
        (f"{HUB}/owner", "https://huggingface.co/OWNER/NAME"),
        (f"{HUB}/owner/name", "linfusion fetch"),
    ],
)
def test_the_advice(link: str, said: str) -> None:
    assert said in str(missing((link,), "", "model"))
