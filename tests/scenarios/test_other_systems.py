"""The whole package where modules and calls of POSIX are missing: it imports, and makes an image."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from linfusion_cli.output.png_reader import check

ROOT = Path(__file__).parents[2]
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
CALLS = ("uname", "statvfs", "fchmod", "pread", "posix_fallocate", "getuid", "geteuid", "sched_getaffinity", "mkfifo")
FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY")
SIGNALS = ("SIGHUP", "SIGKILL", "SIGBUS", "SIGSTOP")
# Only our modules miss them: Python's own, and those of the libraries, have their ways on Windows.
HIDE = f"""
import builtins, importlib, os, signal, sys, types

def ours(depth):
    return sys._getframe(depth + 1).f_globals.get("__name__", "").startswith("linfusion_cli")

class Lacking(types.ModuleType):
    def __init__(self, whole, missing):
        super().__init__(whole.__name__)
        self.__dict__.update(_whole=whole, _missing=missing)

    def __getattr__(self, name):
        if name in self._missing and ours(1):
            raise AttributeError(f"module {{self.__name__}} has no attribute {{name}}")
        return getattr(self._whole, name)

    def __setattr__(self, name, value):
        setattr(self._whole, name, value)

def refusing(call):
    def checked(name, *given, **options):
        if name in {MODULES!r} and ours(1):
            raise ModuleNotFoundError(f"No module named {{name}}", name=name)
        return call(name, *given, **options)
    return checked

sys.modules["os"] = Lacking(os, {CALLS + FLAGS!r})
sys.modules["signal"] = Lacking(signal, {SIGNALS!r})
builtins.__import__ = refusing(builtins.__import__)
importlib.import_module = refusing(importlib.import_module)
"""


NEEDS = {  # modules that are imported where an extra is there
    "linfusion_cli.engine.attention.triton_kernels": "triton",
    "linfusion_cli.engine.streaming.triton_layers": "triton",
    "linfusion_cli.engine.streaming.triton_softmax": "triton",
}


def run(code: str, folder: Path) -> str:
    environment = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", HIDE + code]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_module_imports(tmp_path: Path) -> None:
    extras = {name for name, package in NEEDS.items() if find_spec(package) is None}
    code = (
        f"EXTRAS = {extras!r}"
        + """
import importlib, pkgutil, linfusion_cli
names = [found.name for found in pkgutil.walk_packages(linfusion_cli.__path__, "linfusion_cli.")]
for name in names:
    if name in EXTRAS:
        continue
    if name != "linfusion_cli.__main__":
        importlib.import_module(name)
print(len(names))
"""
    )
    assert int(run(code, tmp_path)) > 250


def test_an_image_is_made_and_its_checkpoints_go(tmp_path: Path) -> None:
    code = """
from linfusion_cli.cli.app import main
from linfusion_cli import platform_files
assert platform_files._FCNTL is None and not platform_files.FOLDER and not platform_files.NO_FOLLOW
sys.exit(main(["generate", "a lake", "--size", "64x64", "--seed", "3", "--checkpoint", "0", "-o", "x.png", "--quiet"]))
"""
    run(code, tmp_path)
    assert str(check(tmp_path / "x.png")) == "64x64"
    assert sorted(name for name in os.listdir(tmp_path) if name != "cache") == ["x.png"]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_posix_is_imported_at_the_top(module: str) -> None:
    """Inside of functions it may be, for systems that have it."""
    for path in (ROOT / "linfusion_cli").rglob("*.py"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if line.startswith((f"import {module}", f"from {module} "))], path
