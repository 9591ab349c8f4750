"""One holder at a time, and no lock that outlives its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from linfusion_cli.errors import BusyError, OutputError
from linfusion_cli.output import file_lock
from linfusion_cli.output.file_lock import Lock, on_network

pytestmark = pytest.mark.slow  # all of them together

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from linfusion_cli.output.file_lock import Lock
with Lock(Path(sys.argv[1]), "it", lease=sys.argv[2] == "lease"):
    print("held", flush=True)
    time.sleep(60)
"""
RACER = """
import sys
from pathlib import Path
from linfusion_cli.errors import BusyError
from linfusion_cli.output.file_lock import Lock
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lock(Path(sys.argv[1]), "it", lease=sys.argv[2] == "lease"):
        print("won", flush=True)
        sys.stdin.readline()
except BusyError as error:
    print("lost", flush=True)
    sys.exit(error.exit_code)
"""


def start(code: str, path: Path, kind: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, str(path), kind]
    return subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_sixteen_at_the_same_instant_have_one_winner(tmp_path: Path, kind: str) -> None:
    racers = [start(RACER, tmp_path / "lock", kind) for _ in range(16)]
    for racer in racers:
        assert line_of(racer) == "ready"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [line_of(racer) for racer in racers]  # the winner holds it until all have said how they fared
    assert sorted(said) == ["lost"] * 15 + ["won"]
    for racer in racers:
        racer.communicate()
    assert [racer.returncode for racer in racers] == [0 if word == "won" else 75 for word in said]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("lease", [False, True])
def test_it_is_free_again_after_use(tmp_path: Path, lease: bool) -> None:
    for _ in range(2):
        with Lock(tmp_path / "lock", "it", lease=lease) as lock:
            assert lock.held()
            with pytest.raises(BusyError, match=rf"it: locked by process {os.getpid()} on"):
                Lock(tmp_path / "lock", "it", lease=lease).__enter__()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_a_killed_holder_stops_nobody(tmp_path: Path, kind: str) -> None:
    holder = start(HOLDER, tmp_path / "lock", kind)
    assert line_of(holder) == "held"
    with pytest.raises(BusyError):
        Lock(tmp_path / "lock", "it", lease=kind == "lease").__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / "lock").exists()
    with Lock(tmp_path / "lock", "it", lease=kind == "lease"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock", "it"):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    with Lock(tmp_path / "lock", "it"):
        child.kill()
    child.wait()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lock, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(file_lock, "RENEW_SECONDS", 0.1)


def lease_of(path: Path, **changes: object) -> None:
    """Leaves the lease of a process that is gone, as filelock writes it, with some of its lines changed."""
    with Lock(path, "it", lease=True):
        lines = path.read_text().splitlines()
    kept = [line for line in lines if line.partition("=")[0] not in changes]
    assert len(kept) == len(lines) - len(changes)
    path.write_text("".join(f"{line}\n" for line in [*kept, *(f"{key}={value}" for key, value in changes.items())]))


def test_a_lease_of_an_earlier_boot_is_dead(tmp_path: Path) -> None:
    """Its process number may live again; the start that filelock keeps beside it has the boot's id in it."""
    lease_of(tmp_path / "lock", start=1 << 100)
    with Lock(tmp_path / "lock", "it", lease=True):
        pass


def test_a_lease_whose_process_is_gone_is_dead(tmp_path: Path) -> None:
    lease_of(tmp_path / "lock", pid=999_999_999)
    with Lock(tmp_path / "lock", "it", lease=True):
        pass


@pytest.mark.parametrize("host", ["elsewhere", f"{os.uname().nodename}?pidns-1"])
def test_a_lease_of_another_machine_or_container_is_believed(tmp_path: Path, host: str) -> None:
    lease_of(tmp_path / "lock", host=host, pid=999_999_999)
    with pytest.raises(BusyError, match=f"locked by process 999999999 on '{host.partition('?')[0]}'"):
        Lock(tmp_path / "lock", "it", lease=True).__enter__()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumped_makes_no_lease_dead(tmp_path: Path, days: int) -> None:
    """A lease that looks old is watched; its living owner renews it."""
    path = tmp_path / "lock"
    lease_of(path, host="elsewhere")
    jumped = path.stat().st_mtime + days * 86400
    os.utime(path, (jumped, jumped))
    over = threading.Event()

    def renew() -> None:
        seconds = 0.0
        while not over.wait(0.1):
            seconds += 0.1
            os.utime(path, (jumped + seconds,) * 2)

    owner = threading.Thread(target=renew)
    owner.start()
    with pytest.raises(BusyError):
        Lock(path, "it", lease=True).__enter__()
    over.set()
    owner.join()
    with Lock(path, "it", lease=True) as lock:
        assert lock.held()


@pytest.mark.usefixtures("short")
def test_a_lease_is_renewed(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock", "it", lease=True):
        os.utime(tmp_path / "lock", (0, 0))
        for _ in range(1000):
            if (tmp_path / "lock").stat().st_mtime:
                break
            time.sleep(0.01)
        assert (tmp_path / "lock").stat().st_mtime > 0


def test_a_lease_that_another_machine_took_is_lost_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(path, "it", lease=True) as lock:
        taken = path.read_text().replace("host=", "host=elsewhere-")
        path.unlink()
        path.write_text(taken)
        assert not lock.held()
    assert path.read_text() == taken


def test_a_file_system_without_flock_gets_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(tmp_path / "lock", "it"):
        assert "mode=lease" in (tmp_path / "lock").read_text()
        with pytest.raises(BusyError):
            Lock(tmp_path / "lock", "it", lease=True).__enter__()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OutputError, match="can't be locked"):
        Lock(tmp_path / "lock", "it", lease=False).__enter__()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("system", "expected"),
    [("ext4", False), ("tmpfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("lustre", True)],
)
def test_network_file_systems_are_known(system: str, expected: bool) -> None:
    assert bool(file_lock._NETWORK.fullmatch(system)) is expected
    assert on_network(Path("/proc")) is False
