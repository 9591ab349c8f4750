"""Limits on this process: what a plan takes of them, and the errors that come of them."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from dataclasses import replace

import pytest

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import LinfusionError, OutOfMemoryError, UsageError
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system import device, process_limits
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.process_limits import memory_limit, refusals_named, shortage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere these limits are not kept")
GB = 10**9
UNLIMITED = resource.RLIM_INFINITY


def limited(monkeypatch: pytest.MonkeyPatch, address_space: int, data: int, mapped: int = 0) -> None:
    """Lets this process seem to have these limits in bytes."""
    limits = {resource.RLIMIT_AS: address_space, resource.RLIMIT_DATA: data, resource.RLIMIT_NOFILE: 8}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], UNLIMITED))
    monkeypatch.setattr(process_limits, "mapped_bytes", lambda: mapped)
    monkeypatch.setattr(device, "_own_bytes", lambda: 10**12)


def test_without_limits_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, UNLIMITED, UNLIMITED)
    assert memory_limit(2) is None
    assert find_machine("cpu").limited_by == ""


@pytest.mark.parametrize(
    ("address_space", "data", "name", "room"),
    [
        (2 * GB, UNLIMITED, "ulimit -v", 1.5 * GB),
        (UNLIMITED, GB, "ulimit -d", GB),
        (2 * GB, 1.6 * GB, "ulimit -v", 1.5 * GB),
        (2 * GB, 1.4 * GB, "ulimit -d", 1.4 * GB),
        (0.1 * GB, UNLIMITED, "ulimit -v", 0),
    ],
)
def test_the_limit_that_leaves_the_least_counts(
    address_space: float, data: float, name: str, room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, int(address_space), int(data), mapped=GB // 2)
    found = memory_limit(2)
    assert found is not None
    assert found.name == name
    beside = process_limits.FRAGMENTS_BYTES + 2 * process_limits.STACK_BYTES
    assert found.room_bytes == max(0, int(room) - beside)


def test_a_plan_keeps_within_the_limit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, int(1.5 * GB), UNLIMITED, mapped=GB // 2)
    machine = replace(find_machine("cpu"), imported_bytes=450_000_000)
    job = resolve(Request(prompt="a lake", size="4k", seed=1))
    for asked in (0, 8 * GB):
        plan = make_plan(replace(job, max_memory_bytes=asked), machine)
        assert plan.peak_bytes <= machine.limit_bytes < GB
        assert any("`ulimit -v` of 1.5 GB limits this process" in str(note) for note in plan.notes)
    less = make_plan(replace(job, max_memory_bytes=int(0.8 * GB)), machine)
    assert less.peak_bytes <= 0.8 * GB


@pytest.mark.parametrize("address_space", [100_000, GB // 2, 1_000_000_000])
def test_a_limit_below_all_plans_is_named(address_space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, address_space, UNLIMITED, mapped=GB // 2)
    job = resolve(Request(prompt="a lake", size="256x256", seed=1))
    for asked in (0, 8 * GB):
        with pytest.raises(OutOfMemoryError, match=r"the limit `ulimit -v` of .* leaves .*Raise it"):
            make_plan(replace(job, max_memory_bytes=asked), find_machine("cpu"))


def wrapped(cause: BaseException) -> RuntimeError:
    """As transformers wraps an error of its imports."""
    error = RuntimeError("Failed to import diffusers.models because of the following error")
    error.__cause__ = RuntimeError("and so on")
    error.__cause__.__cause__ = cause
    return error


SHORT_OF_MEMORY = (
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory", "/lib/torch"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ImportError("x.so: cannot allocate memory in static TLS block"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("cause", SHORT_OF_MEMORY, ids=lambda cause: f"{type(cause).__name__}-{cause}"[:40])
@pytest.mark.parametrize("inside", [False, True])
def test_memory_that_the_system_refuses(cause: BaseException, inside: bool) -> None:
    found = shortage(wrapped(cause) if inside else cause)
    assert isinstance(found, OutOfMemoryError)
    assert str(found).startswith("memory ran out")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (OSError(errno.EMFILE, "Too many open files", "x.so"), r"no more files.*ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), r"no more files.*ulimit -n"),
        (RuntimeError("can't start new thread"), "no more threads or processes: see ulimit -u"),
    ],
)
def test_files_and_threads_that_the_system_refuses(cause: BaseException, text: str, inside: bool) -> None:
    with pytest.raises(LinfusionError, match=text), refusals_named():
        raise wrapped(cause) if inside else cause


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError("x"), ImportError("no module named y"), KeyError("z")]
)
def test_other_errors_stay(error: Exception) -> None:
    assert shortage(error) is None
    with pytest.raises(type(error)), refusals_named():
        raise error


def test_an_error_of_ours_stays_though_memory_ran_out_before() -> None:
    error = UsageError("steps 0")
    error.__context__ = MemoryError()
    assert shortage(error) is None


def test_the_command_without_memory_ends_with_one_line() -> None:
    """300 MB hold the interpreter and no torch: refused before torch is imported, and nothing else is said."""
    command = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20)); "
    command += "from linfusion_cli.cli.app import main; sys.exit(main(sys.argv[1:]))"
    words = ["generate", "hills", "--size", "64x64", "-o", "x.png"]
    ended = subprocess.run([sys.executable, "-c", command, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 4
    assert ended.stderr.count("\n") == 1
    assert "the limit `ulimit -v` of 0.3 GB leaves" in ended.stderr
