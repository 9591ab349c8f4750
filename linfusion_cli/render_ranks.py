"""Renders images with several processes of this machine: rank 0 starts the others and writes each image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from linfusion_cli.config.rank_options import CPUS, RankOptions
from linfusion_cli.engine_import import as_measured, import_engine
from linfusion_cli.errors import LinfusionError, RanksError, UsageError, option
from linfusion_cli.events import Notify
from linfusion_cli.planning.planner import Plan
from linfusion_cli.planning.rank_timeout import SETTLE_SECONDS, cause_seconds
from linfusion_cli.rank_process import BOARD, MEETING_SECONDS, dismiss, joined, led
from linfusion_cli.render import Rendered, prepare, render
from linfusion_cli.system.device import Machine, RankDevice, find_machine, usable_cores
from linfusion_cli.system.process_setup import FEW_PREPARED, importing

if TYPE_CHECKING:
    from linfusion_cli.engine.components.model_cache import ModelCache
    from linfusion_cli.engine.distributed.process_group import Group

ROOT = Path(__file__).resolve().parents[1]
START = "import sys; sys.path.insert(0, sys.argv[1]); from linfusion_cli.rank_process import main; sys.exit(main())"


def rank_machines(device: str, options: RankOptions) -> tuple[Machine, ...]:
    """What each of the ranks on this machine plans with: an equal part of the CPU's memory, or a card of its own.

    device: where options.devices names none: a kind of device, whose first cards are taken

    Raises UsageError for fewer cards than ranks, one card by its number, and devices that ranks don't compute on.
    """
    if options.devices and options.devices[0] != "cpu":
        return _sharing_ram([_named_card(name, options.devices) for name in options.devices])
    ranks = options.ranks
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
    return _sharing_ram(cards)


def _named_card(name: str, devices: Sequence[str]) -> Machine:
    """Raises UsageError, about all the devices that were named, for a card that can't be used."""
    try:
        return find_machine(name)
    except UsageError as error:
        why = error.message.partition(": ")[2].partition(". ")[0]  # not its advice, which is of one device
        others = [other for other in devices if other != name and _is_there(other)]
        advice = f"Nearest: {','.join(others)}" if len(others) > 1 else ""
        more = () if advice else ("Try ", option("devices", CPUS))
        raise UsageError(f'"{",".join(devices):.80}": {name}: {why}. {advice}', *more, parameter="devices") from error


def _is_there(device: str) -> bool:
    try:
        find_machine(device)
    except UsageError:
        return False
    return True


def _sharing_ram(cards: Sequence[Machine]) -> tuple[Machine, ...]:
    """Cards as one of which each rank plans: that with the least free memory, and its part of the RAM."""
    least, devices = min(card.free_bytes for card in cards), tuple(map(RankDevice.of, cards))
    return tuple(
        replace(card, free_bytes=least, ram_bytes=card.ram_bytes // len(cards), rank_devices=devices) for card in cards
    )


def shared_machine(machine: Machine, ranks: int) -> Machine:
    """The machine with the part of its memory that one of `ranks` processes may use. ranks: 1 and more."""
    return replace(machine, free_bytes=machine.free_bytes // ranks, ram_bytes=machine.ram_bytes // ranks)


class RankProcesses:
    """The ranks of this machine, one for each device: this process is rank 0, and starts the others.

    They start with the first image, and stay for the next ones until the block is left or end() is called. When an
    image fails all of them end, and the next image starts new ones.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._others: list[_Other] = []
        self._world: Group | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends the other ranks, which wait for an image."""
        if self._world is not None:
            with contextlib.suppress(RanksError):
                dismiss(self._world)
        self._end()

    def render(self, plan: Plan, notify: Notify, model_cache: ModelCache | None = None) -> Rendered:
        """As render.render(), by all ranks; on a CPU each has its part of the cores.

        Raises what render() raises, UsageError if there are more ranks than bands of rows, the error of another rank,
        and RanksError if a rank was killed or sent nothing for silent_seconds(plan).
        """
        prepare(plan)  # what fails here ends no rank
        try:
            self._start()
            import_engine(plan.machine, plan.dtype, plan.prepared_convolutions)
            plan = as_measured(plan, notify)
            with importing(FEW_PREPARED), led(self._met(), plan) as ranks:
                return render(plan, notify, model_cache, ranks)
        except RanksError as error:
            raise self._cause(error, cause_seconds(plan)) from error
        finally:
            if sys.exc_info()[0] is not None:
                self._end()

    def _start(self) -> None:
        """Starts the others, if they are not there; they import the engine while this process does."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="linfusion-ranks-"))
            self._others = _started(self.devices, self._folder)

    def _met(self) -> Group:
        """The group of all ranks. Raises RanksError at once for one that ends before it has come."""
        assert self._folder is not None
        if self._world is None:
            deadline = time.monotonic() + MEETING_SECONDS
            while not self._waiting() >= {other.rank for other in self._others}:
                if len(self._running()) < len(self._others) or time.monotonic() > deadline:
                    raise RanksError(f"not all {len(self.devices)} ranks have started in {MEETING_SECONDS:.0f} seconds")
                time.sleep(0.05)
            self._world = joined(self._folder, 0, len(self.devices), self.devices[0])
        return self._world

    def _cause(self, lost: RanksError, most_seconds: float) -> LinfusionError:
        """The error of the rank that failed, or which ranks hang: the others end, as they lose this one."""
        hanging = self._hanging()
        _leave()  # so that the others notice
        began = time.monotonic()
        while (running := self._running()) and time.monotonic() - began < most_seconds:
            for other in self._others:
                if (cause := other.cause()) is not None:
                    return cause
            if running <= hanging and time.monotonic() - began > SETTLE_SECONDS:
                break
            time.sleep(0.05)
        for other in self._others:
            if (cause := other.cause()) is not None:
                return cause
        return _hung(running & hanging or running, lost) if running else lost

    def _hanging(self) -> frozenset[int]:
        """The ranks that run and wait for no message, or are stopped: those that the others wait for."""
        waiting = self._waiting()
        return frozenset(
            other.rank for other in self._others if other.rank not in waiting or _is_stopped(other.process.pid)
        )

    def _waiting(self) -> frozenset[int]:
        from linfusion_cli.engine.distributed.waiting_board import WaitingBoard

        assert self._folder is not None
        return WaitingBoard.of(self._folder / BOARD, 0, len(self.devices)).all_waiting()

    def _running(self) -> frozenset[int]:
        return frozenset(other.rank for other in self._others if other.process.poll() is None)

    def _end(self) -> None:
        """Leaves the others, which end or are killed: a rank above 0 keeps no files."""
        if self._world is not None:
            _leave()
            self._world = None
        for other in self._others:
            _end(other.process)
        self._others = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


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
            told = json.loads(self.error_file.read_text(encoding="utf-8"))
            return _error(f"rank {self.rank}: {told['message']}", int(told["exit_code"]))
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return RanksError(f"rank {self.rank} ended without a word ({name}). What is done is kept: start again")


def _error(message: str, code: int) -> LinfusionError:
    error = RanksError(message)
    error.exit_code = code
    return error


def _hung(ranks: frozenset[int], lost: RanksError) -> RanksError:
    numbers = [str(rank) for rank in sorted(ranks)]
    one = len(numbers) == 1
    names = f"rank {numbers[0]}" if one else f"ranks {', '.join(numbers[:-1])} and {numbers[-1]}"
    what = "does not go on and was ended" if one else "do not go on and were ended"
    return RanksError(f"{names} {what} ({lost}). What is done is kept: start again")


def _started(devices: Sequence[str], folder: Path) -> list[_Other]:
    """The ranks from 1 on, which meet in a private folder."""
    size = len(devices)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, usable_cores() // size)),
        "LINFUSION_PARENT": str(os.getpid()),
    }
    others: list[_Other] = []
    for rank in range(1, size):
        command = [sys.executable, "-P", "-c", START, str(ROOT), str(folder), str(rank), str(size), devices[rank]]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
        )  # a session of its own: Ctrl-C reaches rank 0 alone, which ends the others
        others.append(_Other(rank, process, folder / f"error-{rank}"))
    return others


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Waits a moment for the end of a process, then kills it."""
    try:
        process.wait(SETTLE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()


def _leave() -> None:
    from linfusion_cli.engine.distributed.process_group import disconnect

    disconnect()
