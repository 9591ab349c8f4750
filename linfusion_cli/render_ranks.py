"""Renders one image with several processes of this machine: rank 0 starts the others and writes the image."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linfusion_cli.engine_import import as_measured, import_engine
from linfusion_cli.errors import LinfusionError, OutOfMemoryError, RanksError, UsageError, option, ran_out_of_memory
from linfusion_cli.events import Notify
from linfusion_cli.files import write_atomically
from linfusion_cli.planning.planner import Plan
from linfusion_cli.planning.rank_timeout import silent_seconds
from linfusion_cli.render import Rendered, check_ready, render
from linfusion_cli.system.device import Machine, find_machine, usable_cores
from linfusion_cli.system.process_setup import importing, libc, own_process

ROOT = Path(__file__).resolve().parents[1]
START = "import sys; sys.path.insert(0, sys.argv[1]); from linfusion_cli.render_ranks import main; sys.exit(main())"
MEETING_SECONDS = 120.0
CAUSE_SECONDS = 5.0  # after a lost message, until the failed rank has written its error
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def rank_machines(device: str, ranks: int) -> tuple[Machine, ...]:
    """What each of the ranks on this machine plans with: an equal part of the CPU's memory, or a card of its own.

    Raises UsageError for fewer cards than ranks, one card by its number, and devices that ranks don't compute on.
    """
    machine = find_machine(device)
    if machine.kind == "cpu":
        return (shared_machine(machine, ranks),) * ranks
    if machine.kind != "cuda" or device.startswith("cuda:"):
        what = f"{device} is one card, and each takes one" if machine.kind == "cuda" else f"not on {machine.device}"
        raise UsageError(
            f"{ranks}: ranks compute on a CPU or on CUDA ({what}). Give ",
            option("device", machine.kind if machine.kind == "cuda" else "cpu"),
            parameter="ranks",
        )
    cards: list[Machine] = []
    with contextlib.suppress(UsageError):  # the first card that is not there
        cards.extend(find_machine(f"cuda:{number}") for number in range(ranks))
    if len(cards) < ranks:
        raise UsageError(
            f"{ranks}: each takes a card, and torch sees {len(cards)}. Nearest: {len(cards)}", parameter="ranks"
        )
    least = min(card.free_bytes for card in cards)
    return tuple(replace(card, free_bytes=least, ram_bytes=card.ram_bytes // ranks) for card in cards)


def shared_machine(machine: Machine, ranks: int) -> Machine:
    """The machine with the part of its memory that one of `ranks` processes may use. ranks: 1 and more."""
    return replace(machine, free_bytes=machine.free_bytes // ranks, ram_bytes=machine.ram_bytes // ranks)


def in_bands(plan: Plan) -> Plan:
    """The plan with the UNet in bands at every stage: ranks divide the bands among them."""
    return replace(plan, stages=tuple(stage.in_bands() for stage in plan.stages))


def render_by_ranks(devices: Sequence[str], plan: Plan, notify: Notify) -> Rendered:
    """As render(), by this process and one for each device after the first; on a CPU each has its part of the cores.

    Raises what render() raises, UsageError if there are more ranks than bands of rows, the error of another rank, and
    RanksError if a rank was killed or sent nothing for silent_seconds(plan).
    """
    check_ready(plan)
    import_engine(plan.machine, plan.dtype, plan.prepared_convolutions)
    plan = in_bands(as_measured(plan, notify))
    with importing(plan.prepared_convolutions), _started(plan, devices) as (folder, others):
        try:
            return render(plan, notify, ranks=_joined(plan, folder, 0, len(devices)))
        except RanksError as error:
            _leave()  # so that the others notice
            raise _cause(others, error) from error
        finally:
            _leave()


@dataclass(frozen=True, slots=True)
class _Other:
    """Another rank: its process, and the file to which it writes its error."""

    rank: int
    process: subprocess.Popen[bytes]
    error_file: Path

    def cause(self) -> LinfusionError | None:
        """The error with which it ended; None if it runs, succeeded, or failed only because another rank did."""
        code = self.process.poll()
        if code in (None, 0, RanksError.exit_code):
            return None
        if self.error_file.exists():
            told = json.loads(self.error_file.read_text())
            return _error(f"rank {self.rank}: {told['message']}", int(told["exit_code"]))
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return RanksError(f"rank {self.rank} ended without a word ({name}). What is done is kept: start again")


def _error(message: str, code: int) -> LinfusionError:
    error = RanksError(message)
    error.exit_code = code
    return error


@contextmanager
def _started(plan: Plan, devices: Sequence[str]) -> Iterator[tuple[Path, list[_Other]]]:
    """The ranks from 1 on, which read the plan from a private folder. All have ended when the block is left."""
    size = len(devices)
    folder = Path(tempfile.mkdtemp(prefix="linfusion-ranks-"))
    others: list[_Other] = []
    try:
        (folder / "plan").write_bytes(pickle.dumps(plan))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(max(1, usable_cores() // size)),
            "LINFUSION_PARENT": str(os.getpid()),
        }
        for rank in range(1, size):
            command = [sys.executable, "-P", "-c", START, str(ROOT), str(folder), str(rank), str(size), devices[rank]]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
            )  # a session of its own: Ctrl-C reaches rank 0 alone, which ends the others
            others.append(_Other(rank, process, folder / f"error-{rank}"))
        yield folder, others
    finally:
        for other in others:
            _end(other.process)
        shutil.rmtree(folder, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Waits up to CAUSE_SECONDS for the end of a process, then kills it: a rank above 0 keeps no files."""
    try:
        process.wait(CAUSE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()


def _cause(others: list[_Other], lost: RanksError) -> LinfusionError:
    """The error of the rank that failed, or which rank hangs: the others end within CAUSE_SECONDS, as they lost it."""
    deadline = time.monotonic() + CAUSE_SECONDS
    running = others
    while running and time.monotonic() < deadline:
        for other in others:
            if (cause := other.cause()) is not None:
                return cause
        running = [other for other in others if other.process.poll() is None]
        time.sleep(0.05)
    if not running:
        return lost
    names = ", ".join(str(other.rank) for other in running)
    return RanksError(f"rank {names} does not go on and was ended ({lost}). What is done is kept: start again")


def _joined(plan: Plan, folder: Path, rank: int, size: int) -> Any:
    """This process as a rank of the group that meets in a folder."""
    from linfusion_cli.engine.distributed.process_group import join
    from linfusion_cli.engine.distributed.ranks import Ranks

    world = join(
        rank,
        size,
        plan.machine.device,
        f"file://{folder / 'meeting'}",
        local_size=size,
        meeting_seconds=MEETING_SECONDS,
        silent_seconds=silent_seconds(plan),
    )
    return Ranks.of(world)


def _leave() -> None:
    from linfusion_cli.engine.distributed.process_group import disconnect

    disconnect()


def main() -> int:
    """Runs a rank above 0: computes its part of the plan, writes no image. Returns the exit code.

    Its arguments are the root of the package, the folder with the plan, its rank, the number of ranks, and its device.
    """
    own_process()
    _, folder_name, rank, size, device = sys.argv[1:6]
    folder = Path(folder_name)
    _die_with_parent()
    try:
        plan: Plan = pickle.loads((folder / "plan").read_bytes())
        plan = replace(plan, machine=replace(plan.machine, device=device))
        with importing(plan.prepared_convolutions):
            ranks = _joined(plan, folder, int(rank), int(size))
        compute(plan, ranks)
    except Exception as error:
        return _tell(error, folder / f"error-{rank}")
    return 0


def compute(plan: Plan, ranks: Any) -> None:
    """Computes the rows of this rank at every stage and sends them to rank 0."""
    from linfusion_cli.engine.pipeline import images

    for image in images(plan, lambda _: None, None, None, ranks):
        if image.final or plan.job.stages_folder is not None:  # as rank 0 reads them
            for _ in image.rows:
                pass
    ranks.uses()


def _tell(error: Exception, file: Path) -> int:
    """Writes the error to `file` for rank 0; returns its exit code."""
    code = getattr(error, "exit_code", LinfusionError.exit_code)
    message = str(error) if isinstance(error, LinfusionError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError | RuntimeError) and ran_out_of_memory(error):
        code, message = OutOfMemoryError.exit_code, f"memory ran out ({message:.200})"
    elif not isinstance(error, LinfusionError):
        traceback.print_exc()
    write_atomically(file, json.dumps({"message": message, "exit_code": code}))
    return code


def _die_with_parent() -> None:
    if (library := libc()) is not None:
        library.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(os.environ.get("LINFUSION_PARENT", os.getppid())):
        os._exit(RanksError.exit_code)
