"""The site of the documents: each page is in it once, and what leads out of docs/ is no link there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


def on_page(text: str, page: str) -> str:
    specification = importlib.util.spec_from_file_location("mkdocs_hooks", ROOT / "mkdocs_hooks.py")
    assert specification is not None
    assert specification.loader is not None
    hooks = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hooks)
    shown = hooks.on_page_markdown(text, page=SimpleNamespace(file=SimpleNamespace(src_uri=page)))
    assert isinstance(shown, str)
    return shown


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert sorted(re.findall(r"[\w/-]+\.md", navigation)) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_no_link_of_the_site_leads_out_of_it(page: str) -> None:
    text = on_page((ROOT / "docs" / page).read_text(), page)
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            target = (ROOT / "docs" / page).parent.joinpath(link).resolve()
            assert target.is_relative_to(ROOT / "docs"), link
            assert target.exists(), link


def test_a_link_into_the_repository_becomes_a_name() -> None:
    assert on_page("see [it](../examples/a.py).", "x.md") == "see it (`examples/a.py`)."
    assert on_page("[LICENSE](../LICENSE)", "x.md") == "`LICENSE`"
    assert on_page("[cron](../cron.md)", "recipes/x.md") == "[cron](../cron.md)"
