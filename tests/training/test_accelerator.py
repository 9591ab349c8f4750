"""What a training may run on: here a CPU with float32 or bfloat16; all else is refused by the option's name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from linfusion_cli.errors import UsageError
from linfusion_cli.training import accelerator
from linfusion_cli.training.accelerator import make_accelerator


@pytest.fixture(autouse=True)
def one_precision_per_process() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_cpu_is_found(device: str, precision: str) -> None:
    made = make_accelerator(device, precision)
    assert made.device.type == "cpu"
    assert made.mixed_precision == precision
    assert made.trackers == []
    with made.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("device", "precision", "parameter", "said"),
    [
        ("cuda", "no", "device", "finds no GPU"),
        ("cuda:1", "no", "device", "CUDA_VISIBLE_DEVICES"),
        ("tpu", "no", "device", "auto, cpu and cuda"),
        ("cpu", "fp16", "precision", "bf16"),
        ("auto", "fp16", "precision", "bf16"),
    ],
)
def test_what_is_not_here_is_refused_by_the_options_name(
    device: str, precision: str, parameter: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        make_accelerator(device, precision)
    assert caught.value.parameter == parameter


def test_a_cpu_that_is_asked_for_is_not_said_to_lack_fp16_because_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match="fp16"):
        make_accelerator("cpu", "fp16")


def test_a_log_is_written_where_tensorboard_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    made = make_accelerator("cpu", "no", tmp_path)
    made.log({"loss": 1.0}, step=3)
    made.end_training()
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_without_tensorboard_there_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "is_tensorboard_available", lambda: False)
    assert make_accelerator("cpu", "no", tmp_path).trackers == []
    assert list(tmp_path.iterdir()) == []
