"""A confined process computes and reads; it reaches no network, starts nothing and opens nothing to write."""

import subprocess
import sys

import pytest

TRIES = {
    "a socket": "import socket; socket.socket()",
    "a program": "import os; os.system('true')",
    "another": "import subprocess; subprocess.run(['true'])",
    "a file": "open('/tmp/never-written', 'w')",
    "a removal": "import os; os.remove('/tmp/never-written')",
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    text = f"from linfusion_cli.convert.confinement import *; limit(1000); forbid(); {code}"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", TRIES)
def test_what_is_forbidden(what: str) -> None:
    done = run(TRIES[what])
    assert done.returncode != 0
    assert "ForbiddenError" in done.stderr


def test_reading_and_computing_are_allowed() -> None:
    assert run("import json; print(len(open(json.__file__).read()) > 10)").stdout.strip() == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit needs /proc")
def test_memory_is_bounded() -> None:
    assert "MemoryError" in run("bytearray(4 << 30)").stderr
