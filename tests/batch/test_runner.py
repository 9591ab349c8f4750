"""A batch is done once each, whatever happens to its processes, its list and its files."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linfusion_cli.batch import worker_process
from linfusion_cli.output.png_reader import check

PROMPTS = [f"lake number {i}" for i in range(4)]  # as the fixture `finished` has them


def journal(batch) -> list[dict[str, object]]:
    return [json.loads(line) for line in (batch.folder / ".linfusion" / "journal.jsonl").read_text().splitlines()]


def events(batch, kind: str) -> list[dict[str, object]]:
    return [row for row in journal(batch) if row["event"] == kind]


@pytest.mark.slow
def test_every_prompt_becomes_an_image_and_none_twice(batch) -> None:
    batch.write(*PROMPTS)
    process = batch.start()
    out, err = process.communicate(timeout=40)
    assert (process.returncode, len(out.splitlines())) == (0, 4)
    assert "4 made, 0 done before" in err
    before = batch.images()
    code, out, err = batch.run()
    assert (code, out) == (0, "")
    assert "0 made, 4 done before" in err
    assert batch.images() == before
    assert len(before) == len(events(batch, "done")) == len(events(batch, "begun")) == 4
    assert batch.leftovers() == []


@pytest.mark.slow
def test_a_batch_shows_the_running_image_in_one_file(batch) -> None:
    batch.write(*PROMPTS[:2])
    code, out, _ = batch.run("--preview", "now.jpg", "--json")
    assert code == 0
    assert (batch.root / "now.jpg").read_bytes().startswith(b"\xff\xd8")
    assert len(batch.images()) == 2
    assert "rgb" not in out
    code, _, err = batch.run("--preview", "other.jpg")  # it is no part of what an image is
    assert (code, "0 made, 2 done before" in err) == (0, True)


@pytest.mark.slow
def test_the_list_may_change_between_runs(finished) -> None:
    batch = finished
    before = batch.images()
    batch.write("a new first line", PROMPTS[3], "# gone: lake number 1", PROMPTS[2], PROMPTS[0], PROMPTS[0])
    code, _, err = batch.run()
    assert code == 0
    assert "2 made, 3 done before" in err  # the new line, and another image of the line that is there twice
    assert before.items() < batch.images().items()


@pytest.mark.slow
def test_numbers_stay_with_their_images(batch) -> None:
    batch.write(*PROMPTS[:2])
    batch.run("--name", "{index:03d}")
    before = batch.images()
    assert list(before) == ["001.png", "002.png"]
    batch.write("inserted", *PROMPTS[:2])
    assert batch.run("--name", "{index:03d}")[0] == 0
    assert list(batch.images()) == ["001.png", "002.png", "003.png"]
    assert before.items() < batch.images().items()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("sigkill", "was killed (SIGKILL)"),
        ("sigbus", "a weight file was changed or cut while in use"),
        ("sigsegv", "crashed (SIGSEGV)"),
        ("cuda", "CUDA error"),
        ("oom", "memory ran out"),
    ],
)
def test_a_child_that_dies_is_named_and_its_image_made(batch, fault: str, cause: str) -> None:
    batch.write(PROMPTS[0], f"a FAULT:{fault} lake", PROMPTS[1])
    code, _, err = batch.run()
    assert code == 0
    assert cause in err
    assert len(batch.images()) == 3
    (retried,) = events(batch, "retry")
    assert cause in str(retried["error"])
    assert ("with at most" in err) == (fault == "oom")
    assert "going on after step 2" in err


@pytest.mark.slow
def test_a_child_that_hangs_is_replaced(batch) -> None:
    batch.environment = {"STAND_IN_HANG_SECONDS": "3"}
    batch.write("a FAULT:sigstop lake", PROMPTS[0])
    code, _, err = batch.run()
    assert code == 0, err
    assert "gave no sign for 3 s and was ended" in err
    assert len(batch.images()) == 2


@pytest.mark.slow
def test_what_fails_for_good_stops_the_batch_or_not(batch) -> None:
    batch.write("a FAULT:cuda FAULT:always lake", *PROMPTS)
    code, _, err = batch.run("--retry", "1")
    assert code == 1
    assert err.count("retry:") == 1
    assert "4 left" in err
    code, _, err = batch.run("--retry", "0", "--keep-going")
    assert code == 1
    assert "4 made" in err
    assert "1 failed" in err
    code, out, _ = batch.run("--status")
    assert "4 done, 1 failed" in out
    assert "CUDA error" in out


@pytest.mark.slow
def test_a_kill_of_the_parent_leaves_no_child_and_no_lock(batch) -> None:
    batch.environment = {"STAND_IN_STEP": "0.3"}
    batch.write(*PROMPTS)
    process = batch.start()
    deadline = time.monotonic() + 30
    while not (batch.folder / ".linfusion" / "journal.jsonl").exists() or not events(batch, "begun"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    batch.environment = {"STAND_IN_STEP": "0"}
    code, _, err = batch.run()
    assert code == 0, err
    assert len(batch.images()) == 4
    assert batch.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_and_the_next_run_goes_on(batch, number: int, code: int) -> None:
    batch.environment = {"STAND_IN_STEP": "0.4"}
    batch.write(*PROMPTS[:2])
    process = batch.start("--json")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "plan":
            break
    time.sleep(1.0)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "2 left in" in err
    assert "(told to stop; the same command goes on)" in err
    assert batch.leftovers() == ["step.safetensors"]
    batch.environment = {"STAND_IN_STEP": "0"}
    code, _, err = batch.run()
    assert code == 0
    assert "going on after step" in err
    assert len(batch.images()) == 2


@pytest.mark.slow
def test_of_several_starts_one_works_and_the_others_say_busy(batch) -> None:
    batch.write(*PROMPTS)
    processes = [batch.start("--quiet") for _ in range(4)]
    results = [(process.communicate(timeout=60), process.returncode) for process in processes]
    codes = sorted(code for _, code in results)
    assert codes[0] == 0
    assert set(codes) <= {0, 75}
    assert len(batch.images()) == len(events(batch, "begun")) == 4
    for (out, err), code in results:
        assert out == ""
        assert ("locked by process" in err) == (code == 75)


@pytest.mark.slow
def test_damaged_images_are_found_and_made_again(finished) -> None:
    batch = finished
    before = batch.images()
    paths = [batch.folder / name for name in before]
    data = [path.read_bytes() for path in paths]
    paths[0].write_bytes(data[0][: len(data[0]) // 2])
    paths[1].write_bytes(data[1][:700] + bytes([data[1][700] ^ 1]) + data[1][701:])
    paths[2].write_bytes(data[2][:-12])
    code, out, _ = batch.run("--status")
    assert code == 1
    assert "3 damaged, 1 done" in out
    paths[2].write_bytes(b"")
    paths[3].unlink()
    code, out, _ = batch.run("--status")
    assert code == 1
    assert "3 damaged, 1 missing" in out
    code, _, err = batch.run()
    assert code == 0
    assert "4 made, 0 done before" in err
    assert batch.images() == before


@pytest.mark.slow
def test_damage_that_hides_is_found_by_verify(finished) -> None:
    batch = finished
    path = batch.folder / next(iter(batch.images()))
    info, data = path.stat(), bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert batch.run("--status")[0] == 0
    assert batch.run("--status", "--verify")[0] == 1
    assert batch.run("--verify")[0] == 0
    check(path)


@pytest.mark.slow
def test_without_its_journal_a_batch_knows_its_images(finished) -> None:
    batch = finished
    (batch.folder / ".linfusion" / "journal.jsonl").unlink()
    code, _, err = batch.run()
    assert (code, "0 made, 4 done before" in err) == (0, True)
    (batch.folder / ".linfusion" / "journal.jsonl").write_bytes(b'{"event": "done", "id": 3}\nnull\n{"event"')
    assert "0 made, 4 done before" in batch.run()[2]


def test_a_strangers_file_is_never_replaced(batch) -> None:
    batch.write(*PROMPTS[:2])
    batch.folder.mkdir()
    (batch.folder / "x-1.png").write_bytes(b"precious")
    code, _, err = batch.run("--name", "x-{index}")
    assert code == 74
    assert "is there and is not this image" in err
    assert (batch.folder / "x-1.png").read_bytes() == b"precious"
    assert list(batch.folder.glob("*.png")) == [batch.folder / "x-1.png"]


@pytest.mark.slow
def test_limits_end_a_run_and_the_next_goes_on(batch) -> None:
    batch.write(*PROMPTS)
    code, _, err = batch.run("--limit", "3")
    assert (code, "3 made, 0 done before, 1 left" in err, "--limit is reached" in err) == (0, True, True)
    batch.environment = {"STAND_IN_STEP": "0.5"}
    code, _, err = batch.run("--max-minutes", "0.04")
    assert code == 0
    assert "1 left" in err
    assert "the time is up" in err
    batch.environment = {}
    code, _, err = batch.run()
    assert (code, "1 made, 3 done before" in err) == (0, True)


@pytest.mark.slow
def test_shards_share_a_list_without_overlap(batch) -> None:
    batch.write(*[f"hill {i}" for i in range(9)])
    for i in range(3):
        assert batch.run("--shard", f"{i + 1}/3")[0] == 0
    assert len(batch.images()) == len(list((batch.folder / ".linfusion").glob("journal-*.jsonl"))) * 3 == 9
    assert "0 made, 9 done before" in batch.run()[2]


@pytest.mark.slow
def test_a_full_disk_ends_the_batch_with_74_and_keeps_what_is_done(batch) -> None:
    """The limit on file sizes fails writes as a full disk does, at the file that grows too large."""
    batch.write(*PROMPTS)
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "stand_in.py"),
        "cli",
        "batch",
        "list.txt",
        "-o",
        "out",
        "--size",
        "256x256",
    ]

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        command, cwd=batch.root, preexec_fn=limited, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 74, done.stderr
    assert "File too large" in done.stderr
    assert list(batch.folder.glob("*.png")) == []
    assert batch.leftovers() == []


@pytest.mark.slow
def test_a_child_imports_nothing_from_where_it_is_started(batch) -> None:
    (batch.root / "json.py").write_text("raise SystemExit('planted')")
    batch.write(PROMPTS[0])
    assert batch.run()[0] == 0
    assert worker_process.COMMAND[1] == "-P"


@pytest.mark.slow
def test_a_disk_without_room_ends_the_batch_even_if_it_keeps_going(batch) -> None:
    batch.write(PROMPTS[0], "a FAULT:enospc lake", *PROMPTS[1:])
    code, _, err = batch.run("--keep-going")
    assert code == 74, err
    assert (
        "No space left on device. The batch ends here (1 made, 4 left). Make room and give the same command again"
        in err
    )
    assert err.count("error: ") == 1
    assert "failed: " not in err
    assert len(batch.images()) == 1
    code, _, err = batch.run("--keep-going")
    assert (code, "4 made, 1 done before" in err) == (0, True)


def test_a_list_that_can_not_be_made_leaves_no_folder(batch) -> None:
    batch.write("a lake --size 9x9", "a lake", "a hill --model /nope --sede 3")
    code, _, err = batch.run()
    assert code == 2
    assert [line.split(" ")[0] for line in err.splitlines()[1:]] == ["list.txt:1:", "list.txt:3:"]
    assert not batch.folder.exists()


@pytest.mark.slow
def test_missing_weights_are_told_before_the_first_image_or_cost_their_own(batch) -> None:
    batch.write("a lake", "a hill --lora nobody/nothing/x.safetensors --size 64x128")
    code, _, err = batch.run()
    assert code == 66
    problem = "list.txt:2: weights are not on this machine: nobody/nothing/x.safetensors."
    assert f"{problem} Fetch them with: linfusion fetch --lora" in err
    assert not batch.folder.exists()
    code, _, err = batch.run("--keep-going")
    assert (code, len(batch.images())) == (1, 1)
    assert "failed: list.txt:2: " in err


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "children"), [(("64x64", "1536x1536", "64x64"), 2), (("1536x1536", "64x64"), 1)])
def test_an_image_in_bands_gets_a_process_that_keeps_little(
    batch, monkeypatch: pytest.MonkeyPatch, sizes: tuple[str, ...], children: int
) -> None:
    """A process keeps its prepared convolutions for good; those of a small image are too many beside a large one."""
    started = []
    of_worker = worker_process.WorkerProcess.__init__
    monkeypatch.setattr(worker_process.WorkerProcess, "__init__", lambda self: (started.append(1), of_worker(self))[1])
    batch.write(*[f"lake {index} --size {size}" for index, size in enumerate(sizes)])
    code, _, err = batch.run()
    assert (code, len(batch.images())) == (0, len(sizes)), err
    assert len(started) == children
    assert len(events(batch, "begun")) == len(sizes) + children - 1


@pytest.mark.slow
def test_an_image_whose_process_died_after_naming_it_is_made(batch) -> None:
    batch.write(PROMPTS[0], "a LATE:sigkill lake", PROMPTS[1])
    code, _, err = batch.run()
    assert (code, "3 made" in err, "failed" in err) == (0, True, False)
    assert len(batch.images()) == len(events(batch, "begun")) == len(events(batch, "done")) == 3


@pytest.mark.slow
def test_removing_the_hidden_folder_fails_no_image_that_is_there(batch) -> None:
    batch.write(PROMPTS[0], "a LATE:remove lake", PROMPTS[1])
    code, _, err = batch.run()
    assert (code, "3 made" in err) == (0, True), err
    assert len(batch.images()) == 3
