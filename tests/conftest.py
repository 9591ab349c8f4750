"""Shared by all tests: where the data is, no network, no measurements of this machine from before, one thread."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    DIFFUSERS_DISABLE_REMOTE_CODE="1",
    TRANSFORMERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported: the workers share the cores, and tiny networks gain nothing from threads
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="linfusion-tests-")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data() -> Path:
    return Path(__file__).parent / "data"
