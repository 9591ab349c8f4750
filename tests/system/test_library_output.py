"""The libraries' output goes to those who listen, and to nobody else."""

import subprocess
import sys

import pytest

CODE = """
import logging, sys, warnings
from linfusion_cli.system.library_output import listening, route_libraries
import diffusers.utils.logging, transformers.utils.logging
route_libraries()
heard = []
with listening(heard.append):
    transformers.utils.logging.get_logger("transformers.models.x").warning("LOAD REPORT " + "key\\n" * 1000)
    diffusers.utils.logging.get_logger("diffusers.loaders.x").warning("[]")
    warnings.warn("odd")
transformers.utils.logging.get_logger("transformers.models.y").warning("nobody hears it")
for _ in diffusers.utils.logging.tqdm(range(3)):
    pass
assert [line.split(":")[0] for line in heard] == ["transformers.models.x", "diffusers.loaders.x", "py.warnings"], heard
assert all(len(line) <= 400 and "\\n" not in line for line in heard), heard
"""


@pytest.mark.slow
def test_logs_warnings_and_progress_bars_are_heard_by_those_who_listen_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
