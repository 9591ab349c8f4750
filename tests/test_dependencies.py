"""What the package imports is declared, what is declared has bounds, and what an installation brings is pinned."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = canonicalize_name(PROJECT["name"])
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
UNINSTALLED = {"torchmetrics", "torch-fidelity", "ray", "triton"}  # of extras that the tests do without
MODULES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}  # others have their distribution's name


def declared(extras: set[str]) -> list[Requirement]:
    """The requirements of the project with some of its extras, those that name the project's own extras resolved."""
    texts = list(PROJECT["dependencies"]) + [text for extra in sorted(extras) for text in EXTRAS[extra]]
    found = [Requirement(text) for text in texts]
    inner = {
        extra for requirement in found if canonicalize_name(requirement.name) == OURS for extra in requirement.extras
    }
    if not inner <= extras:
        return declared(extras | inner)
    return [requirement for requirement in found if canonicalize_name(requirement.name) != OURS]


def imported() -> dict[str, Path]:
    """Top-level third-party module -> a file of the package that imports it, anywhere in the file."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "linfusion_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.split(".")[0], path)
    return {name: path for name, path in found.items() if name not in {*sys.stdlib_module_names, "linfusion_cli"}}


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Distribution -> installed version, of the requirements and all that they require on this machine."""
    found: dict[str, str] = {}
    waiting = [(canonicalize_name(requirement.name), frozenset(requirement.extras)) for requirement in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name in UNINSTALLED:
            continue
        seen.add((name, extras))
        distribution = metadata.distribution(name)
        found[name] = distribution.version.split("+")[0]
        for text in distribution.requires or []:
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((canonicalize_name(inner.name), frozenset(inner.extras)))
    return found


def pinned() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


@pytest.mark.slow
def test_every_import_is_declared() -> None:
    names = {canonicalize_name(requirement.name) for requirement in declared(set(EXTRAS))}
    undeclared = {name for name in imported() if canonicalize_name(MODULES.get(name, name)) not in names}
    assert undeclared == set()


@pytest.mark.slow
def test_an_undeclared_import_would_be_noticed() -> None:
    assert "httpx2" in imported()
    assert "requests" not in {requirement.name for requirement in declared(set(EXTRAS))}


@pytest.mark.parametrize("name", ["diffusers", "peft", "transformers", "huggingface_hub", "httpx2"])
def test_libraries_whose_inside_is_touched_have_an_upper_bound(name: str) -> None:
    requirement = next(each for each in declared(set(EXTRAS)) if each.name == name)
    assert re.search(r"<\d", str(requirement.specifier))


def test_constraints_pin_all_that_an_installation_brings() -> None:
    present = closure(declared({"test"}))
    pins = pinned()
    assert sorted(set(present) - set(pins)) == [], "constraints.txt lacks these"
    assert {name: pins[name] for name in present} == present


def test_constraints_satisfy_what_is_declared() -> None:
    for requirement in declared(set(EXTRAS)):
        version = pinned().get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), requirement
