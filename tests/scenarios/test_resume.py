"""The same command goes on where it was, and makes the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from linfusion_cli import render
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import BusyError
from linfusion_cli.events import Event, MemorySampled, Note, PhaseStarted, Progressed
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.signals import STOP


def plan_for(folder: Path, **changes: object) -> Plan:
    asked = {
        "prompt": "hills at dawn",
        "size": "256x128",
        "steps": 4,
        "seed": 3,
        "output": folder / "x.png",
        "checkpoint_seconds": 0.0,
    }
    request = Request(**asked | changes)  # type: ignore[arg-type]
    return make_plan(resolve(request), find_machine("cpu"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


class Interrupting:
    """Lets something happen after the n-th step of denoising."""

    def __init__(self, step: int, act: object) -> None:
        self.left, self.act, self.events, self.phase = step, act, [], ""

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PhaseStarted):
            self.phase = event.name
        if isinstance(event, Progressed) and self.phase == "denoise":
            self.left -= 1
            if not self.left:
                self.act()  # type: ignore[operator]

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


def fail() -> None:
    raise OSError("the machine is gone")


def test_an_interrupted_image_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    expected = pixels(render.render(plan_for(tmp_path / "whole"), lambda event: None).path)
    total = sum(stage.steps for stage in plan_for(tmp_path).stages)
    for step in (1, 4, total):
        with pytest.raises(OSError, match="gone"):
            render.render(plan_for(tmp_path), Interrupting(step, fail))
        assert (tmp_path / ".linfusion").is_dir()
        watch = Interrupting(0, fail)
        assert np.array_equal(pixels(render.render(plan_for(tmp_path), watch).path), expected)
        assert len([text for text in watch.notes if text.startswith("continuing with stage")]) == 1
        assert not (tmp_path / ".linfusion").exists()
        (tmp_path / "x.png").unlink()


@pytest.mark.parametrize(("code", "error"), [(143, SystemExit), (130, KeyboardInterrupt)])
def test_a_signal_waits_for_the_end_of_the_step_and_its_checkpoint(
    tmp_path: Path, code: int, error: type[BaseException]
) -> None:
    plan = plan_for(tmp_path, checkpoint_seconds=3600.0)  # only a signal makes it keep anything
    watch = Interrupting(2, lambda: STOP.ask(code))
    with pytest.raises(error):
        render.render(plan, watch)
    assert STOP.code == 0
    assert [event.done for event in watch.events if isinstance(event, Progressed)][
        -1
    ] == 3  # asked while step 2 was told: after its checkpoint, during step 3
    watch = Interrupting(0, fail)
    render.render(plan, watch)
    assert watch.notes[0] == "continuing with stage 0, after step 3 of 4"


def test_a_second_signal_and_one_outside_a_step_stop_at_once() -> None:
    STOP.reset()
    with pytest.raises(SystemExit) as caught:
        STOP.ask(143)
    assert caught.value.code == 143
    STOP.patient = True
    STOP.ask(130)
    with pytest.raises(KeyboardInterrupt):
        STOP.ask(130)
    assert (STOP.code, STOP.patient) == (0, False)


def test_the_user_is_told_that_the_step_is_waited_for(tmp_path: Path) -> None:
    notes: list[Event] = []
    stopper = render._Stopper(notes.append)
    sample = MemorySampled(resident_bytes=1, device_bytes=0)
    stopper.see(sample)
    STOP.patient = True
    STOP.ask(143)
    stopper.see(sample)
    stopper.see(sample)
    STOP.reset()
    assert len(notes) == 1


def test_restart_forgets(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        render.render(plan_for(tmp_path), Interrupting(2, fail))
    watch = Interrupting(0, fail)
    render.render(plan_for(tmp_path, restart=True), watch)
    assert watch.notes == []


def test_without_a_seed_the_one_that_was_drawn_is_found_again(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, seed=None)
    with pytest.raises(OSError, match="gone"):
        render.render(plan, Interrupting(2, fail))
    again = plan_for(tmp_path, seed=None).job
    assert render.interrupted_seed(again) == plan.job.seed
    assert render.interrupted_seed(plan_for(tmp_path, seed=None, restart=True).job) is None
    assert render.interrupted_seed(plan_for(tmp_path, seed=9).job) is None
    assert render.interrupted_seed(plan_for(tmp_path, seed=None, steps=5).job) is None


def test_the_same_image_is_not_made_twice_at_once(tmp_path: Path) -> None:
    def second() -> None:
        render.render(plan_for(tmp_path), lambda event: None)

    with pytest.raises(BusyError):
        render.render(plan_for(tmp_path), Interrupting(1, second))


def test_images_of_stages_that_an_earlier_run_did_not_keep_are_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        render.render(plan_for(tmp_path), Interrupting(5, fail))
    watch = Interrupting(0, fail)
    render.render(plan_for(tmp_path, stages_folder=tmp_path / "stages"), watch)
    assert any(text.startswith("no image of stage 0: made before the interruption") for text in watch.notes)


def test_an_interrupted_image_goes_on_with_other_bands(tmp_path: Path) -> None:
    """Less memory means lower bands, of denoising and of decoding; what was kept serves all the same, to one level."""
    (tmp_path / "whole").mkdir()
    roomy = plan_for(tmp_path / "whole", size="512x256", steps=3)
    tight = plan_for(tmp_path, size="512x256", steps=3, max_memory=f"{0.85 * roomy.peak_bytes / 1e6:.0f}MB")
    bands = [plan.stages[-1].bands for plan in (roomy, tight)]
    assert bands[0].unet_latent == 0 < bands[1].unet_latent, "the whole image at once, then in bands"
    assert bands[0].vae_px > bands[1].vae_px
    expected = pixels(render.render(roomy, lambda event: None).path).astype(int)
    with pytest.raises(OSError, match="gone"):
        render.render(plan_for(tmp_path, size="512x256", steps=3), Interrupting(4, fail))
    watch = Interrupting(0, fail)
    found = pixels(render.render(tight, watch).path)
    assert any(text.startswith("continuing with stage") for text in watch.notes)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.long
def test_the_number_of_threads_changes_no_pixel_by_more_than_one_level(tmp_path: Path) -> None:
    threads, made = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            (tmp_path / str(count)).mkdir()
            made.append(pixels(render.render(plan_for(tmp_path / str(count)), lambda event: None).path).astype(int))
    finally:
        torch.set_num_threads(threads)
    assert max(np.abs(made[0] - other).max() for other in made[1:]) <= 1
