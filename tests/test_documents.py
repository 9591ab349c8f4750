"""The documents name files that exist, scripts import names that exist, and facts that stand twice agree."""

import ast
import importlib
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import linfusion_cli
from linfusion_cli.cli.app import app

ROOT = Path(__file__).parents[1]
HISTORY = {"log.md", "CHANGELOG.md"}  # they name files as they were
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OURS = ("linfusion_cli/", "tests/", "bench/", "docs/", "presets/", "examples/", "engine/")
CURRENT = [path for path in DOCUMENTS if path.name not in HISTORY]
SCRIPTS = sorted([*(ROOT / "bench").rglob("*.py"), *(ROOT / "examples").glob("*.py")])
IDS = [path.name for path in DOCUMENTS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", CURRENT, ids=[path.name for path in CURRENT])
def test_files_that_are_named_exist(document: Path) -> None:
    names = [
        name
        for name in re.findall(r"`([\w./-]+)(?:::\w+)?`", document.read_text())
        if name.startswith(OURS) and "NAME" not in name
    ]
    missing = [name for name in names if not (ROOT / name).exists() and not (ROOT / "linfusion_cli" / name).exists()]
    assert not missing


def test_the_citation_names_this_version() -> None:
    version = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version is not None
    assert version[1] == linfusion_cli.__version__


def test_the_licence_goes_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert project["license"] == "Apache-2.0"
    assert all((ROOT / name).is_file() for name in project["license-files"])
    assert (ROOT / "linfusion_cli" / "py.typed").is_file()


def test_every_target_of_the_makefile_is_explained() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## \w", text, re.MULTILINE))


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_scripts_import_names_that_exist(script: Path) -> None:
    """Benchmarks run rarely, so a module that moved would stay unnoticed."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("linfusion_cli"):
            module = importlib.import_module(node.module or "")
            unknown = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert [name for name in unknown if importlib.util.find_spec(f"{module.__name__}.{name}") is None] == []


README_COMMANDS = re.findall(r"^linfusion (?!--).*", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", README_COMMANDS)
def test_the_flags_of_the_readme_are_there(line: str) -> None:
    command: Any = get_command(app)
    words = [word.partition("=")[0] for word in shlex.split(line, comments=True)[1:]]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"-h", "--help"}
    assert [word for word in words if word.startswith("-") and len(word) > 1 and word not in flags] == []


def test_each_report_has_its_test() -> None:
    """The rows are numbered without a gap, every kind has some, and the tests that they name are there."""
    rows = re.findall(
        r"(?m)^\| ([A-F])(\d+) \|.*\| `([\w/.]+)(?:::(\w+))?` \|$", (ROOT / "docs" / "reports.md").read_text()
    )
    assert len(rows) >= 51
    for kind in "ABCDEF":
        numbers = [int(number) for found, number, _, _ in rows if found == kind]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers
    missing = [name for _, _, file, name in rows if f"def {name or 'test_'}" not in (ROOT / file).read_text()]
    assert missing == []
