"""The README of the package page has no link and no image that leads nowhere, and loses no word."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hatch_build.py, without hatchling, which pip brings for a build alone."""
    stand_in = ModuleType("hatchling.metadata.plugin.interface")
    vars(stand_in)["MetadataHookInterface"] = object
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", stand_in)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_leads_somewhere(hook: ModuleType) -> None:
    whole = (ROOT / "README.md").read_text()
    text = hook.package_readme(whole)
    assert all(target.startswith(("https://", "#")) for target in re.findall(r"\]\(([^)]+)\)", text))
    named = [target for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)\)", whole) if "://" not in target]
    assert len(named) > 5
    assert all(f"`{target}`" in text for target in named)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[docs/a.md](docs/a.md)", "`docs/a.md`"),
        ("see [the `x`](docs/a.md) and [y](https://y.example)", "see the `x` (`docs/a.md`) and [y](https://y.example)"),
        ("a\n\n![b](docs/b.jpg)\n\nc", "a\n\nc"),
        ("![b](https://b.example/b.jpg)", "![b](https://b.example/b.jpg)"),
    ],
)
def test_what_becomes_of_links(hook: ModuleType, given: str, expected: str) -> None:
    assert hook.package_readme(given) == expected


def test_the_build_uses_it(hook: ModuleType) -> None:
    metadata: dict[str, dict[str, str]] = {}
    hook.CustomMetadataHook.update(SimpleNamespace(root=str(ROOT)), metadata)
    assert metadata["readme"]["text"].startswith("# linfusion\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "readme" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["metadata"]["hooks"]["custom"] == {}
