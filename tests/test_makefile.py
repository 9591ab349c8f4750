"""The Makefile takes from the code what the code knows, and says what its targets do."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linfusion_cli.distill.variant_names import VARIANT_NAMES

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()

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
