"""`linfusion generate`, with stand-ins for the plan and the engine."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from linfusion_cli.cli import long_work
from linfusion_cli.cli.app import main
from linfusion_cli.config.job import Job

COMMAND = ["generate", "a lake", "--seed", "5", "--size", "256x128"]


@pytest.fixture
def jobs(fakes: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs that were planned; the current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    seen: list[Job] = []
    make_plan = fakes.make_plan

    def watched(job: Job, machine: object, **_: object) -> Any:
        seen.append(job)
        return make_plan(job, machine)

    fakes.make_plan = watched
    return seen


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_stdout_is_the_path_and_stderr_the_story(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == 0
    captured = capsys.readouterr()
    assert captured.out == "landscape-5-256x128.png\n"
    for words in (
        "256x128 pixels, preset landscape, seed 5: a lake",
        "cpu: a chip (no GPU), float32",
        "2.5 GB",
        "denoise",
        "predicted",
        "12 s",
    ):
        assert words in captured.err


def test_every_flag_reaches_the_job(jobs: list[Job]) -> None:
    flags = (
        "--negative people --steps 30 --guidance 3 --scheduler euler --attention softmax "
        "--device cpu --dtype float16 --max-memory 6GB"
    )
    assert (
        main(
            [
                *COMMAND,
                *flags.split(),
                "--overwrite",
                "--stages",
                "s",
                "--memory-log",
                "m",
                "-o",
                "x{seed}",
                "-p",
                "sd15-4k",
            ]
        )
        == 0
    )
    job = jobs[0]
    sampling = job.settings.sampling
    assert (sampling.steps, sampling.guidance_scale, sampling.scheduler, job.negative_prompt) == (
        30,
        3.0,
        "euler",
        "people",
    )
    assert (job.settings.model.attention, job.device, job.dtype, job.max_memory_bytes) == (
        "softmax",
        "cpu",
        "float16",
        6 * 10**9,
    )
    assert (job.overwrite, job.stages_folder, job.memory_log, job.output, job.preset) == (
        True,
        Path("s"),
        Path("m"),
        Path("x5.png"),
        "sd15-4k",
    )


def test_quiet_prints_nothing(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_json_is_one_object_per_line(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json"]) == 0
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert events[0]["type"] == "plan"
    assert {"phase", "progress", "phase_done", "note"} < {event["type"] for event in events}
    assert (events[-1]["type"], events[-1]["path"], events[-1]["seed"]) == ("summary", "landscape-5-256x128.png", 5)
    assert "predicted" in captured.err


def test_quiet_json_leaves_stderr_empty(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMAND, "--json", "-q"])
    captured = capsys.readouterr()
    assert captured.out
    assert captured.err == ""


def test_a_dry_run_shows_the_plan_and_renders_nothing(
    jobs: list[Job], fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    del fakes.render
    assert main([*COMMAND, "--dry-run", "--steps", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["0", "128x64", "2"] for line in lines)
    assert any(line.startswith("steps = 30") and line.endswith("# --steps") for line in lines)
    assert any(line.startswith("factor = 2.0") and line.endswith("# defaults.toml") for line in lines)


@pytest.mark.slow
def test_seed_minus_one_draws_a_seed_and_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = set()
    for _ in range(2):
        assert main(["generate", "a lake", "--size", "128x128", "--seed", "-1", "--dry-run", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out.splitlines()[0])["plan"]
        assert plan["seed_drawn"] is True
        seeds.add(plan["seed"])
    assert len(seeds) == 2
    assert main(["generate", "a lake", "--size", "128x128", "--seed=-1", "--dry-run"]) == 0
    assert re.match(r"128x128 pixels, preset landscape, seed \d+ \(drawn\): a lake", capsys.readouterr().out)
    assert main(["generate", "a lake", "--seed", "-2", "--dry-run"]) == 2


def test_words_that_the_model_ignores_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a cat by a lake", "--dry-run"]) == 0
    assert 'note: the built-in model draws landscapes alone and ignores "cat".' in capsys.readouterr().out
    main(["generate", "a cat by a lake", "--dry-run", "--json"])
    notes = json.loads(capsys.readouterr().out.splitlines()[0])["plan"]["notes"]
    assert [note for note in notes if '"cat"' in note]


def test_a_dry_run_tells_what_would_stop_the_work(
    jobs: list[Job], fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes.obstacles = lambda plan: ("lake.png: exists\x1b",)
    assert main([*COMMAND, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == r"would fail: lake.png: exists\x1b"
    main([*COMMAND, "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out)["obstacles"] == ["lake.png: exists\x1b"]


def test_a_dry_run_in_json_is_one_line(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMAND, "--dry-run", "--json"])
    event = json.loads(capsys.readouterr().out)
    assert (event["type"], event["sources"]["output.size"]) == ("plan", "--size")


def test_the_prompt_comes_from_standard_input_or_a_file(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"\xef\xbb\xbf100 % lake\r\n")
    stdin(monkeypatch, "café\n".encode())
    assert main(["generate", "-", "-q"]) == 0
    stdin(monkeypatch, b"from a pipe")
    assert main(["generate", "--prompt-file", "-", "-q"]) == 0
    assert main(["generate", "--prompt-file", "prompt.txt", "-q"]) == 0
    (tmp_path / "notepad.txt").write_bytes("a lâke\r\n".encode("utf-16"))
    assert main(["generate", "--prompt-file", "notepad.txt", "-q"]) == 0
    assert main(["generate", "-q", "--", "-dashed"]) == 0
    assert [job.prompt for job in jobs] == ["café", "from a pipe", "100 % lake", "a lâke", "-dashed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "the prompt is empty"),
        ([], "there is no prompt"),
        (["x", "--prompt-file", "p"], "not both"),
        (["--prompt-file", "none.txt"], "can't be read: No such file"),
        (["-"], "standard input: there is no text in it"),
        (["--prompt-file", "-"], "standard input: there is no text in it"),
        (["x", "--size", "0x8"], "--size 0x8: sides must be from 8"),
        (["x", "--size", "-16x8"], "Nearest: 8x8"),
        (["x", "--size", "1001x1001"], "Nearest: 1000x1000"),
        (["x", "--preset", "landscpe"], 'Did you mean "landscape"?'),
        (["x", "--preset", "broken.toml"], "broken.toml, line 1: broken TOML"),
        (
            ["x", "--preset", "typo.toml"],
            'typo.toml, line 2: unknown key "sampling.stpes". Did you mean "sampling.steps"?',
        ),
        (["x", "--max-memory", "6"], "for example 6GB"),
        (["x", "-o", ""], "--output"),
        (["x", "-o", "none/"], "there is no such folder"),
        (["x", "--seed", "-2"], "Nearest: 0"),
    ],
)
def test_bad_input_is_refused_before_any_plan(
    jobs: list[Job], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    stdin(monkeypatch, b"\n")
    Path("broken.toml").write_text("= 3")
    Path("typo.toml").write_text("[sampling]\nstpes = 3")
    assert main(["generate", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert (captured.out, jobs) == ("", [])


def test_what_would_stop_the_work_is_told_without_a_question_before_it(
    fakes: SimpleNamespace, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(long_work, "can_ask", lambda *, yes: True)
    monkeypatch.setattr(long_work, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(typer, "confirm", lambda question, **_: asked.append(question) or True)
    for obstacles, questions in ((("no weights",), 0), ((), 1)):
        fakes.obstacles = lambda plan, told=obstacles: told
        assert main([*COMMAND, "--overwrite"]) == 0
        assert len(asked) == questions
