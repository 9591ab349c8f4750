"""Several images of one command: their seeds and names, what is there already, and going on after an interruption."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.cli.image_series import Series, is_done, jobs_of, series_of
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.option_rows import LARGEST_SEED
from linfusion_cli.config.request import Request
from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.planning.planner import Plan
from linfusion_cli.render import Rendered

ASKED = Request(prompt="a lake", size="64x64")


def names(request: Request, series: Series) -> list[str]:
    with jobs_of(request, series, remember=False) as jobs:
        return [job.output.name for job in jobs]


@pytest.mark.parametrize(
    ("words", "series"),
    [
        ((None, None, None), Series()),
        (("3", None, 7), Series(3)),
        ((None, "1..4", None), Series(4, (1, 2, 3, 4))),
        ((None, "5,1,5", None), Series(2, (5, 1))),
    ],
)
def test_what_is_asked_for(words: tuple[str | None, str | None, int | None], series: Series) -> None:
    assert series_of(*words) == series


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fog", None, None), "give --negative fog"),
        (("a 'b", None, None), "give --negative 'a '\"'\"'b'"),
        (("0", None, None), "--count 0: write a whole number from 1 to 10000. Nearest: 1"),
        (("10001", None, None), "Nearest: 10000"),
        (("2", "1..4", None), "leave out --count"),
        ((None, "1..4", 3), "leave out --seed"),
        ((None, "4..1", None), "write them upwards: 1..4"),
        ((None, "0..20000", None), "too many"),
    ],
)
def test_what_can_not_be_meant(words: tuple[str | None, str | None, int | None], message: str) -> None:
    with pytest.raises(UsageError) as error:
        series_of(*words)
    assert message in str(error.value)


def test_no_image_takes_the_name_of_another(tmp_path: Path) -> None:
    asked = replace(ASKED, seed=7, output=tmp_path / "lake.png")
    assert names(asked, Series(3)) == ["lake-7.png", "lake-8.png", "lake-9.png"]
    assert names(asked, Series(1, (7,))) == ["lake.png"]
    assert names(replace(asked, output=tmp_path / "{index:02d}.jpg"), Series(2)) == ["01.jpg", "02.jpg"]
    assert len(set(names(replace(asked, output=tmp_path), Series(4)))) == 4


def test_a_template_without_a_seed_is_refused(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('extends = "landscape"\n[output]\nname = "lake.png"\n')
    with pytest.raises(UsageError, match=r"2 images would have 1 names: give -o a name with \{seed\}"):
        names(replace(ASKED, seed=7, preset=str(preset)), Series(2))


def test_drawn_seeds_are_kept_until_all_images_are_made(tmp_path: Path) -> None:
    asked = replace(ASKED, output=tmp_path / "lake.png")
    with suppress(KeyboardInterrupt), jobs_of(asked, Series(3), remember=True) as jobs:
        first = [job.seed for job in jobs]
        assert len(list((tmp_path / ".linfusion").iterdir())) == 1
        raise KeyboardInterrupt
    assert first == list(range(first[0], first[0] + 3))
    with jobs_of(asked, Series(3), remember=True) as jobs:
        assert [job.seed for job in jobs] == first
    assert list(tmp_path.iterdir()) == []


def test_seeds_end_where_seeds_end() -> None:
    with pytest.raises(UsageError, match=str(LARGEST_SEED)):
        names(replace(ASKED, seed=LARGEST_SEED), Series(2))


@pytest.mark.slow
def test_the_images_are_those_of_their_seeds_and_are_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["generate", "a lake", "--size", "64x64", "--steps", "2", "--json", "-q", "-o", "lake.png"]
    assert main([*command, "--seeds", "1..2"]) == 0
    made = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    done = [row for row in made if row["type"] == "summary"]
    assert [(row["path"], row["seed"]) for row in done] == [("lake-1.png", 1), ("lake-2.png", 2)]
    pixels = Path("lake-2.png").read_bytes()
    assert main([*command, "--seed", "1", "-n", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in rows if row["type"] == "skipped"] == ["lake-1.png", "lake-2.png"]
    assert [row["path"] for row in rows if row["type"] == "summary"] == ["lake-3.png"]
    assert Path("lake-2.png").read_bytes() == pixels
    with jobs_of(
        Request(prompt="a lake", size="64x64", steps=2, seed=2, output=Path("lake-2.png")), Series(), remember=False
    ) as (job,):
        assert is_done(job)
        assert job_hash(job) == done[1]["record"]["id"]


def test_images_after_the_first_go_by_what_the_imports_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of them would be planned again, and say so."""
    planned: list[Plan] = []

    def render(plan: Plan, notify: object, model_cache: object) -> Rendered:
        planned.append(plan)
        measured = replace(plan, machine=replace(plan.machine, imported_bytes=777_000_000))
        return Rendered(plan=measured, path=plan.job.output, seconds=1.0, peak_bytes=1, device_peak_bytes=0, record={})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("linfusion_cli.render.render", render)
    monkeypatch.setattr("linfusion_cli.engine_import.make_model_cache", lambda plan: None)
    assert main(["generate", "a lake", "--size", "64x64", "--seeds", "1..3", "-o", "x.png", "-q"]) == 0
    assert [(plan.seed, plan.job.seed, plan.job.output.name) for plan in planned] == [
        (seed, seed, f"x-{seed}.png") for seed in (1, 2, 3)
    ]
    assert [plan.machine.imported_bytes == 777_000_000 for plan in planned] == [False, True, True]


def test_a_file_of_another_image_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lake-2.png").write_bytes(b"of somebody")
    assert main(["generate", "a lake", "--size", "64x64", "--seeds", "1..2", "-o", "lake.png"]) == OutputError.exit_code
    assert "already exists" in capsys.readouterr().err
    assert not Path("lake-1.png").exists()
