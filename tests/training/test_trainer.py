"""The loop of every training: it learns, goes on exactly, keeps what was good, and refuses another run's folder."""

import resource
from pathlib import Path

import pytest
import torch
from small_training import loss_for, model_and_run
from torch import Tensor, nn

from linfusion_cli.errors import LinfusionError, OutputError
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings, averaged


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_learns_and_goes_on_exactly(tmp_path: Path, accumulate: int) -> None:
    whole, run = model_and_run(tmp_path / "whole", accumulate=accumulate)
    before = loss_for(whole)(999)[0].item()
    last = list(run.train(loss_for(whole)))[-1]
    assert isinstance(last, Progress)
    assert (last.step, last.seconds_left) == (60, 0)
    assert loss_for(whole)(999)[0].item() < before / 2

    model, run = model_and_run(tmp_path / "parts", accumulate=accumulate, save_every_steps=10)
    with pytest.raises(KeyboardInterrupt):
        list(run.train(loss_for(model, stop_at=33 * accumulate)))
    again, run = model_and_run(tmp_path / "parts", accumulate=accumulate)
    assert run.step == 30
    list(run.train(loss_for(again)))
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    ours_average, theirs_average = averaged(tmp_path / "parts"), averaged(tmp_path / "whole")
    assert all(torch.equal(ours_average[name], theirs_average[name]) for name in theirs_average)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    other = nn.Linear(4, 1)
    other.load_state_dict(model.state_dict())

    def large(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (loss_for(other)(2 * index)[0] + loss_for(other)(2 * index + 1)[0]) / 2
        return loss, {}

    for each, name, parts in ((model, "a", 2), (other, "b", 1)):
        run = Run(
            tmp_path / name, each, torch.optim.SGD(each.parameters(), 0.1), Schedule(5, 0.1), Settings(accumulate=parts)
        )
        list(run.train(loss_for(each) if parts == 2 else large))
    assert torch.allclose(model.weight, other.weight, atol=1e-6)


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, 5)
    list(run.train(loss_for(model)))
    model, run = model_and_run(tmp_path, 5)
    list(run.train(loss_for(model, stop_at=0)))
    assert run.step == 5


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_none_stop_the_run_and_keep_what_was_good(tmp_path: Path, what: str) -> None:
    model, run = model_and_run(tmp_path, save_every_steps=4)
    good = loss_for(model)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = good(index)
        if index < 10:
            return loss, terms
        return (
            (loss * float("nan"), terms) if what == "loss" else ((loss * 0).sqrt(), terms)
        )  # the root's slope at 0 is infinite

    with pytest.raises(LinfusionError, match=rf"step 10: the {what} is nan.*checkpoint-00000008"):
        list(run.train(loss_of))
    again, run = model_and_run(tmp_path)
    assert run.step == 8
    assert all(torch.isfinite(parameter).all() for parameter in again.parameters())


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, save_every_steps=4)
    good = loss_for(model)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if index == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (256, before[1]))
        return good(index)

    try:
        with pytest.raises(OutputError, match="checkpoint-00000004 stays"):
            list(run.train(loss_of))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000004"]
    _, run = model_and_run(tmp_path)
    assert run.step == 4
