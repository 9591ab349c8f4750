"""Downloads the wheels that the card's machine lacks: everything that this program needs, without torch.

    python -m bench.gpu.wheels FOLDER [--python 3.12]

About 60 MB for Linux on x86. There: pip install --no-index --no-deps --find-links FOLDER FOLDER/*.whl
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from bench.gpu.case import ROOT

IN_PLACE = "torch"  # with what it needs: gigabytes, and built for the card's driver


def needed() -> dict[str, str]:
    """Name and version of every package that this installation's dependencies lead to, without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = [Requirement(text).name for text in project["dependencies"]], {}
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name == IN_PLACE:
            continue
        try:
            own = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed here: pip install --editable . first")
        found[name] = own.version
        requirements = [Requirement(text) for text in own.requires or []]
        waiting += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="", metavar="3.12", help="of the card's machine, if not as here")
    options = parser.parse_args()
    words = ["--no-deps", "--only-binary", ":all:", "--dest", str(options.folder)]
    words += ["--python-version", options.python] if options.python else []
    packages = [f"{name}=={version}" for name, version in sorted(needed().items())]
    return subprocess.run([sys.executable, "-m", "pip", "download", *words, *packages], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
