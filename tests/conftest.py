"""Shared by all tests: the data folder, no network, no remembered speed, no settings of a user, one thread."""

import os
import re
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    DIFFUSERS_DISABLE_REMOTE_CODE="1",
    TRANSFORMERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TRITON_INTERPRET="1",  # its kernels run on the CPU; read when torch imports it
)
# Before torch is imported. The workers share the cores, and tiny networks gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="linfusion-tests-")
os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_CACHE_HOME"]  # nor a user's own presets and defaults
for name in [name for name in os.environ if re.match("LINFUSION_(?!FUZZ)", name)]:
    del os.environ[name]
# A machine that is busy is slow: no test may fail for it. The examples are the same in each run, so that a failure is
# the change's; where LINFUSION_FUZZ asks for a search (the soak does), they are new ones.
hypothesis.settings.register_profile("linfusion", deadline=None, derandomize="LINFUSION_FUZZ" not in os.environ)
hypothesis.settings.load_profile("linfusion")
sys.path.insert(0, str(Path(__file__).parent))


MANY_RANKS = 7


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Modules that are slow as a whole are not even imported where slow tests are left out."""
    if "not slow" not in config.option.markexpr or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.slow" in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(scope="session")
def data() -> Path:
    return Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def host_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs inside a test owns the process until the test ends, and not for the tests after it."""
    from linfusion_cli.system import process_setup

    monkeypatch.setitem(process_setup._STATE, "owned", False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What spans packages, and what processes compute together, is slow: `make test-fast` leaves it out.

    What seven processes compute is long, but for whole images: `make test` leaves it out, `make test-long` runs it.
    """
    for item in items:
        started = "ranks" in getattr(item, "fixturenames", ())
        if started and getattr(item, "callspec", None) and item.callspec.params.get("size") == MANY_RANKS:
            item.add_marker("slow" if item.path.name == "test_ranks.py" else "long")
        if started or (Path(__file__).parent / "scenarios") in item.path.parents:
            item.add_marker("slow")
        _check_families(item)


def _check_families(item: pytest.Item) -> None:
    """A test that runs for a family says so in one of its marks, unless it covers what that family does not have."""
    from covered_kinds import KINDS, covered

    shown = [
        covered(*mark.args, **{"families": KINDS.get(mark.args[0], ()), **mark.kwargs}, test=item.nodeid)
        for mark in item.iter_markers("covers")
    ]
    family = item.callspec.params.get("family") if hasattr(item, "callspec") else None
    if isinstance(family, str) and any(family in KINDS[one.kind] for one in shown):
        assert any(family in one.families for one in shown), f"{item.nodeid}: the mark covers leaves out {family}"
