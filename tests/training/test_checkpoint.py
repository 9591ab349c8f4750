"""Checkpoints that are damaged, half written or of another run."""

import json
from pathlib import Path

import pytest
from small_training import loss_for, model_and_run

from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.training import checkpoint
from linfusion_cli.training.trainer import averaged


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, 4)
    list(run.train(loss_for(model)))
    with pytest.raises(UsageError, match=r"rate is 0\.01 there and 0\.02 here"):
        model_and_run(tmp_path, 4, identity={"rate": 0.02})


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.OPTIMIZER, checkpoint.RUN])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, name: str) -> None:
    model, run = model_and_run(tmp_path, 4)
    list(run.train(loss_for(model)))
    (tmp_path / "checkpoint-00000004" / name).write_bytes(b"{")
    with pytest.raises(WeightsError, match="damaged"):
        model_and_run(tmp_path, 4)


def test_half_written_checkpoints_do_not_count(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, 4)
    list(run.train(loss_for(model)))
    (tmp_path / "checkpoint-00000009.part").mkdir()
    _, run = model_and_run(tmp_path, 8)
    assert run.step == 4
    assert json.loads((tmp_path / "checkpoint-00000004" / checkpoint.RUN).read_text())["step"] == 4


def test_no_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Train first"):
        averaged(tmp_path)
