"""The Makefile takes from the code what the code knows, and says what its targets do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linfusion_cli.distill.variant_names import VARIANT_NAMES

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()

NVIDIA = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")  # of the driver, on Linux and in WSL

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_attention_that_can_be_distilled_has_its_row_among_the_claims() -> None:
    told = make("--dry-run", "claims", f"BIN={Path(sys.executable).parent}").stdout
    (variants,) = re.findall("for variant in (.*); do", told)
    assert tuple(variants.split()) == VARIANT_NAMES


def test_names_that_can_not_be_read_stop_the_claims(tmp_path: Path) -> None:
    done = make("--dry-run", "claims", f"BIN={tmp_path}")
    assert done.returncode != 0
    assert "the names of the variants could not be read" in done.stderr


def test_help_lists_every_target_that_has_a_name() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*?[^\\])$", MAKEFILE, re.MULTILINE | re.DOTALL)
    listed = {line.split()[0] for line in make("help").stdout.splitlines()}
    assert listed == set(phony.replace("\\", "").split())


@pytest.mark.skipif(any(map(os.path.exists, NVIDIA)), reason="here is a card")
@pytest.mark.parametrize(
    ("script", "words", "note"),
    [
        (
            "echo --extra-index-url https://download.pytorch.org/whl/cpu",
            "torch --extra-index-url https://download.pytorch.org/whl/cpu",
            "",
        ),
        ("exit 1", "torch ", "does not answer"),
    ],
)
def test_torch_for_cpus_is_taken_where_there_is_no_card(script: str, words: str, note: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n" + script)
    python.chmod(0o755)
    told = make("--dry-run", "demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    (line,) = [line for line in told.stdout.splitlines() if "constraints.txt torch" in line]
    assert line.endswith(f"constraints.txt {words}")
    assert note in told.stderr
    assert bool(told.stderr) == bool(note)
    asked = make("--dry-run", "demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}", "TORCH_FROM=")
    assert "constraints.txt torch \n" in asked.stdout
