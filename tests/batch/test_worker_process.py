"""The runner's side of a worker: orders go in, answers come out, and whatever it dies of is said in words."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linfusion_cli.batch import worker_process
from linfusion_cli.batch.messages import Answer, Beat, Failed, Order, Outgrown
from linfusion_cli.batch.worker_process import WorkerProcess
from linfusion_cli.config.request import Request

ORDER = Order(id="abc", request=Request(prompt="a lake"))
BEAT, OUTGROWN = '{"kind": "beat"}', '{"kind": "outgrown"}'


@contextmanager
def worker(code: str) -> Iterator[WorkerProcess]:
    """A worker that runs this code; it is ended whatever happens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerProcess, "command", (sys.executable, "-c", f"import os, signal, sys, time\n{code}"))
        process = WorkerProcess()
    try:
        yield process
    finally:
        process.kill()


def answers(process: WorkerProcess) -> list[Answer]:
    """All that it says until it is dead."""
    found: list[Answer] = []
    limit = time.monotonic() + 30
    while not process.dead and time.monotonic() < limit:
        if (answer := process.receive(0.02)) is not None:
            found.append(answer)
    assert process.dead
    return found


def cause_of(code: str) -> str:
    with worker(code) as process:
        answers(process)
        process.end()
        return process.cause()


def test_an_order_goes_in_and_answers_come_out_in_turn() -> None:
    code = f"line = sys.stdin.readline()\nprint('{BEAT}' if 'a lake' in line else 'no')\nprint('{OUTGROWN}')"
    with worker(code) as process:
        process.send(ORDER)
        assert answers(process) == [Beat(), Outgrown()]


def test_the_worker_ends_when_its_orders_end() -> None:
    with worker(f"for line in sys.stdin: print('{BEAT}', flush=True)") as process:
        process.send(ORDER)
        assert process.receive(30) == Beat()
        assert not process.dead
        process.end()
        assert process.dead
        assert process.cause().startswith("the process ended with exit code 0")


def test_a_line_that_was_cut_off_is_none_and_a_strange_one_is_a_failure() -> None:
    with worker(f"""print('{{"kind": "strange"}}'); print('{BEAT}'); print('{{"kind": "be', end='')""") as process:
        strange, beat = answers(process)
    assert isinstance(strange, Failed)
    assert strange.error == "InternalError"
    assert beat == Beat()


def test_no_answer_is_none_and_silence_is_counted() -> None:
    with worker("time.sleep(60)") as process:
        assert process.receive(0.01) is None
        assert process.silent_seconds > 0


def test_silence_of_a_runner_that_was_stopped_itself_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with worker("time.sleep(60)") as process:
        now = time.monotonic()
        monkeypatch.setattr(worker_process.time, "monotonic", lambda: now + 1000)
        assert process.receive(0.01) is None
        assert process.silent_seconds < 1


def test_an_order_to_a_dead_worker_is_no_error() -> None:
    with worker("") as process:
        answers(process)
        process.send(ORDER)
        assert process.dead


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed (SIGKILL), most likely because memory ran out"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "lost a file that it was reading (SIGBUS)"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "died by SIGTERM"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", f"died by signal {signal.SIGRTMIN + 3}"),
    ],
)
def test_its_death_is_said_with_its_last_words(death: str, said: str) -> None:
    words = "torch says this\\nHF_TOKEN=hf_canaryCANARYcanary123\\n\\n"
    cause = cause_of(f"sys.stderr.write('{words}'); sys.stderr.flush()\n{death}")
    assert f"the process {said}" in cause
    assert "Its last words: HF_TOKEN=" in cause
    assert "canary" not in cause


def test_a_kill_by_the_memory_limit_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter([4, 5, 5])
    monkeypatch.setattr(worker_process, "oom_kills", lambda: next(kills))
    assert "by the memory limit" in cause_of("os.kill(os.getpid(), signal.SIGKILL)")


def test_one_that_ignores_its_end_is_killed() -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with worker(f"{deaf}; print('{BEAT}', flush=True); time.sleep(60)") as process:
        assert process.receive(30) == Beat()
        process.stop()
        process.end(patience_seconds=0.05)
        assert process.process.returncode == -signal.SIGKILL


def test_a_signal_of_the_terminal_does_not_reach_it() -> None:
    with worker("print(os.getsid(0) == os.getpid(), file=sys.stderr); sys.exit(1)") as process:
        answers(process)
        process.end()
        assert process.cause().endswith("Its last words: True")


def test_the_worker_imports_from_the_package_alone(tmp_path: Path) -> None:
    """-P: a folder of images may hold a torch.py."""
    assert "-P" in worker_process.COMMAND
    assert Path(worker_process.COMMAND[-1]) == Path(worker_process.__file__).parents[2]
