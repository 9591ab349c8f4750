"""From a plan to a file: whole or not at all, with its record, previews and log."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linfusion_cli import render
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine import pipeline
from linfusion_cli.engine.pipeline import StageImage
from linfusion_cli.errors import OutOfMemoryError, OutputError, WeightsError
from linfusion_cli.events import Event, Note, Notify, PhaseFinished, PhaseStarted, PreviewMade
from linfusion_cli.models import builtin_folder
from linfusion_cli.output.metadata import command_of, read_record, record_texts
from linfusion_cli.output.png_reader import check
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.work import Timed

pytestmark = pytest.mark.slow  # all of them together


def plan_for(folder: Path, **changes: object) -> Plan:
    asked = Request(prompt="a lake [/b]", size="256x128", seed=3, output=folder / "x.png")
    request = replace(asked, **changes)  # type: ignore[arg-type]
    return make_plan(resolve(request), find_machine("cpu"))


def quiet(event: Event) -> None:
    assert event is not None


def fake_images(plan: Plan, notify: object, keeper: object, model_cache: object) -> Iterator[StageImage]:
    """The engine's door with flat images behind it."""
    for stage in plan.stages:
        rows = iter([np.full((stage.size.height, stage.size.width, 3), 10 * stage.index, dtype=np.uint8)])
        yield StageImage(stage, stage is plan.stages[-1], rows)


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "images", fake_images)


@pytest.mark.usefixtures("fake_engine")
def test_the_record_repeats_the_job(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, steps=7, scheduler="euler", negative_prompt="fog")
    record = read_record(render.render(plan, quiet).path)
    assert (record["prompt"], record["seed"], record["steps"], record["scheduler"]) == ("a lake [/b]", 3, 7, "euler")
    command = command_of(record)
    for words in (
        "'a lake [/b]'",
        "--preset landscape",
        "--size 256x128",
        "--seed 3",
        "--steps 7",
        "--scheduler euler",
        "--negative-prompt fog",
    ):
        assert words in command
    assert str(tmp_path) not in json.dumps(record)


def test_a_render_corrects_the_known_speed_by_what_it_computed_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(tmp_path)
    phases = [phase for phase in plan.phases if phase.name != "load"]
    learned: list[dict[str, Any]] = []

    def slow(plan: Plan, notify: Notify, keeper: object, model_cache: object) -> Iterator[StageImage]:
        for number, phase in enumerate(plan.phases):
            notify(
                PhaseStarted(name=phase.name, stage=phase.stage, total=9, unit="steps", done=int(phase == phases[0]))
            )
            notify(
                PhaseFinished(
                    name=phase.name, stage=phase.stage, seconds=10.0**number, peak_bytes=1, device_peak_bytes=0
                )
            )
        yield from fake_images(plan, notify, keeper, model_cache)

    monkeypatch.setattr(pipeline, "images", slow)
    monkeypatch.setattr(
        render,
        "learn_speed",
        lambda machine, dtype, **found: learned.append({"machine": machine, "dtype": dtype, **found}),
    )
    idle = staticmethod(lambda: Contention(0.0, 0.0, 0.0))
    monkeypatch.setattr(Contention, "now", idle)
    monkeypatch.setattr(Contention, "quiet_seconds", lambda self, taken, until: taken / 2)
    render.render(plan, quiet)
    # as long as without other programs
    timed = [Timed(phase.work, 10.0**number / 2) for number, phase in enumerate(phases[1:], start=2)]
    start = plan.machine.speed("float32").start_seconds  # torch is here already
    assert learned == [
        {"machine": plan.machine, "dtype": "float32", "phases": timed, "start_seconds": pytest.approx(start)}
    ]


@pytest.mark.parametrize(("peak_bytes", "told"), [(699_000_000, False), (701_000_000, True)])
def test_a_peak_over_the_limit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peak_bytes: int, told: bool
) -> None:
    def hungry(plan: Plan, notify: Notify, keeper: object, model_cache: object) -> Iterator[StageImage]:
        notify(PhaseFinished(name="decode", stage=0, seconds=1.0, peak_bytes=peak_bytes, device_peak_bytes=0))
        yield from fake_images(plan, notify, keeper, model_cache)

    monkeypatch.setattr(pipeline, "images", hungry)
    events: list[Event] = []
    render.render(plan_for(tmp_path, max_memory="700MB"), events.append)
    notes = [str(event.text) for event in events if isinstance(event, Note)]
    assert any("the peak was 701 MB, more than max_memory" in note for note in notes) == told


@pytest.mark.usefixtures("fake_engine")
def test_the_plan_that_was_followed_is_told_with_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(tmp_path)
    again = replace(plan, budget_bytes=7)
    monkeypatch.setattr(render, "as_measured", lambda plan, notify: again)
    assert render.render(plan, quiet).plan is again


@pytest.mark.usefixtures("fake_engine")
@pytest.mark.parametrize("part", ["vae", "linfusion"])
def test_damaged_weights_are_named_before_any_work(tmp_path: Path, part: str) -> None:
    """One flipped byte in what is loaded last, or is no part of the model, ends the command before its first event."""
    source = builtin_folder("builtin:landscape")
    assert source is not None
    model = shutil.copytree(source, tmp_path / "model")
    plan = plan_for(tmp_path, model=str(model), linfusion=str(model / "linfusion"))
    path = model / part / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    events: list[Event] = []
    with pytest.raises(WeightsError, match=f"{part}/diffusion_pytorch_model.safetensors: damaged: its SHA-256"):
        render.render(plan, events.append)
    assert events == []
    data[-9] ^= 1
    path.write_bytes(data)
    again = plan_for(tmp_path, model=str(model), linfusion=str(model / "linfusion"))
    assert render.render(again, events.append).path.exists()


@pytest.mark.usefixtures("fake_engine")
@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"])
def test_weights_that_changed_since_the_plan_are_named_and_not_used(tmp_path: Path, part: str) -> None:
    model = tmp_path / "mine"
    shutil.copytree(builtin_folder("builtin:landscape") or Path(), model)
    (model / "SHA256SUMS").unlink(missing_ok=True)  # else the file is refused as damaged
    (tmp_path / "mine.toml").write_text(f'extends = "landscape"\n[model]\nrepositories = ["{model}"]\n')
    plan = plan_for(tmp_path, preset=str(tmp_path / "mine.toml"))
    file = model / part
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))  # of the same size, as other weights of a model are
    with pytest.raises(WeightsError, match="mine: these weights changed since the plan was made"):
        render.render(plan, quiet)
    assert not list(tmp_path.glob("*.png"))
    file.write_bytes(before)
    assert render.render(plan_for(tmp_path, preset=plan.job.preset), quiet).path.exists()


@pytest.mark.usefixtures("fake_engine")
def test_an_existing_image_is_kept_unless_told(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="use overwrite"):
        render.render(plan_for(tmp_path), quiet)
    assert (tmp_path / "x.png").read_bytes() == b"precious"
    assert check(render.render(plan_for(tmp_path, overwrite=True), quiet).path)


def test_leftovers_are_looked_for_once_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of very many images would be listed for each of them."""
    looked: list[Path] = []
    monkeypatch.setattr(render, "tidy", looked.append)
    (tmp_path / "other").mkdir()
    for folder, seed in ((tmp_path, 1), (tmp_path, 2), (tmp_path / "other", 1)):
        render.prepare(plan_for(folder, seed=seed))
    assert looked == [tmp_path, tmp_path / "other"]


def test_what_can_not_be_written_is_found_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_work(plan: Plan, notify: object, keeper: object, model_cache: object) -> Iterator[StageImage]:
        raise AssertionError("the engine must not start")

    monkeypatch.setattr(pipeline, "images", no_work)
    with pytest.raises(OutputError, match="nowhere"):
        render.render(plan_for(tmp_path / "nowhere"), quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^stages_folder "):
        render.render(plan_for(tmp_path, stages_folder=tmp_path / "file" / "deeper"), quiet)
    with pytest.raises(OutputError, match=r"^memory_log "):
        render.render(plan_for(tmp_path, memory_log=tmp_path / "no" / "log"), quiet)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_interrupt_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def broken(plan: Plan, notify: object, keeper: object, model_cache: object) -> Iterator[StageImage]:
        def rows() -> Iterator[pipeline.Rows]:
            yield np.zeros((8, 256, 3), dtype=np.uint8)
            raise stop

        yield StageImage(plan.stages[-1], True, rows())

    monkeypatch.setattr(pipeline, "images", broken)
    with pytest.raises(stop):
        render.render(plan_for(tmp_path), quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    ],
)
def test_running_out_of_memory_is_said_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def hungry(plan: Plan, notify: object, keeper: object, model_cache: object) -> Iterator[StageImage]:
        raise error
        yield

    monkeypatch.setattr(pipeline, "images", hungry)
    with pytest.raises(OutOfMemoryError, match=r"the plan was .*(Nearest: max_memory=|Try a smaller size)"):
        render.render(plan_for(tmp_path), quiet)


def test_other_runtime_errors_stay_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(plan: Plan, notify: object, keeper: object, model_cache: object) -> Iterator[StageImage]:
        raise RuntimeError("shapes differ")
        yield

    monkeypatch.setattr(pipeline, "images", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        render.render(plan_for(tmp_path), quiet)


def test_a_folder_that_is_moved_meanwhile_costs_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    plan = plan_for(tmp_path / "out")

    def moving(*arguments: Any) -> Iterator[StageImage]:
        (tmp_path / "out").rename(tmp_path / "moved")
        yield from fake_images(*arguments)

    monkeypatch.setattr(pipeline, "images", moving)
    events: list[Event] = []
    assert check(render.render(plan, events.append).path) == plan.job.size
    (note,) = (event.text for event in events if isinstance(event, Note) and "folder" in event.text)
    assert "made again" in note


@pytest.mark.usefixtures("fake_engine")
def test_no_folder_of_this_machine_is_stored_in_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "private" / "my-model"
    folder.parent.mkdir()
    source = builtin_folder("builtin:landscape")
    assert source is not None
    folder.symlink_to(source)
    preset = tmp_path / "private" / "mine.toml"
    preset.write_text(f'extends = "landscape"\n[model]\nrepositories = ["{folder}", "owner/name"]\n')
    request = Request(prompt="a lake", preset=str(preset), size="256x128", seed=3, output=tmp_path / "x.png")
    record = read_record(render.render(make_plan(resolve(request), find_machine("cpu")), quiet).path)
    assert "private" not in json.dumps(record)
    assert record["model"] == "my-model"
    assert record["preset"] == "mine.toml"


def test_the_parameters_name_the_sampler_as_a1111_does(tmp_path: Path) -> None:
    texts = record_texts(render.record_of(plan_for(tmp_path, scheduler="DPM++ 2M Karras"), []))
    assert "Sampler: DPM++ 2M, Schedule type: Karras, " in texts["parameters"]


def test_a_preview_is_written_before_it_is_told_and_its_failure_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = PreviewMade(stage=0, done=1, total=1, width=2, height=1, rgb=bytes(6))

    def showing(plan: Plan, notify: Notify, keeper: object, model_cache: object) -> Iterator[StageImage]:
        notify(made)
        yield from fake_images(plan, notify, keeper, model_cache)

    monkeypatch.setattr(pipeline, "images", showing)
    there: list[bool] = []
    taken = tmp_path / "taken"

    def blocked(plan: Plan, notify: Notify, keeper: object, model_cache: object) -> Iterator[StageImage]:
        taken.write_text("")
        yield from showing(plan, notify, keeper, model_cache)

    plan = plan_for(tmp_path, preview=tmp_path / "p.jpg")
    render.render(plan, lambda event: there.append((tmp_path / "p.jpg").exists()))
    assert there == [True]
    monkeypatch.setattr(pipeline, "images", blocked)
    events: list[Event] = []
    again = plan_for(tmp_path, preview=taken / "p.jpg", overwrite=True)
    assert render.render(again, events.append).path.exists()
    assert [type(event) for event in events] == [Note, PreviewMade]
    with pytest.raises(OutputError, match=r"preview .* is not a folder"):
        render.render(again, events.append)


@pytest.mark.usefixtures("fake_engine")
def test_a_preview_is_no_part_of_the_record_nor_of_the_job(tmp_path: Path) -> None:
    plain, with_preview = plan_for(tmp_path), plan_for(tmp_path, preview=tmp_path / "p.jpg", preview_every=2)
    assert render.record_of(plain, []) == render.record_of(with_preview, [])
    assert with_preview.preview is not None
    assert with_preview.preview.every == 2
