"""A rank above 0: it computes every image that is sent, and leaves its error for rank 0."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli import rank_process
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.distributed.ranks import Ranks
from linfusion_cli.errors import OutOfMemoryError, WeightsError
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine


@pytest.fixture
def plan() -> Plan:
    return make_plan(resolve(Request(prompt="a lake", output=Path("x.png"), device="cpu")), find_machine("cpu"))


def test_it_computes_every_image_on_its_device_and_keeps_the_model(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [plan, replace(plan, keep_text_encoders=True), replace(plan, keep_text_encoders=True, seed=9)]
    sent = [*map(pickle.dumps, plans), b""]
    done: list[tuple[Any, ...]] = []
    closed: list[float] = []
    world: Any = SimpleNamespace(from_first=lambda own: sent.pop(0), waiting=lambda seconds: seconds)
    monkeypatch.setattr(
        Ranks, "of", staticmethod(lambda seconds, shares: SimpleNamespace(close=lambda: closed.append(seconds)))
    )
    monkeypatch.setattr(rank_process, "make_model_cache", lambda plan: object())
    monkeypatch.setattr(
        rank_process, "_compute", lambda plan, ranks, cache: done.append((plan.seed, plan.machine.device, cache))
    )
    rank_process.follow(world, "cuda:1")
    assert [row[:2] for row in done] == [(plan.seed, "cuda:1"), (plan.seed, "cuda:1"), (9, "cuda:1")]
    assert done[0][2] is None
    assert done[1][2] is done[2][2] is not None
    assert len(closed) == 3
    assert min(closed) >= 60


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (WeightsError("no UNet"), WeightsError.exit_code, "no UNet"),
        (MemoryError("7 GB"), OutOfMemoryError.exit_code, "memory ran out (MemoryError: 7 GB)"),
        (KeyError("x"), 1, "KeyError: 'x'"),
    ],
)
def test_its_error_is_left_for_rank_0(error: Exception, code: int, message: str, tmp_path: Path) -> None:
    assert rank_process._tell(error, tmp_path / "error-1") == code
    assert json.loads((tmp_path / "error-1").read_text()) == {"message": message, "exit_code": code}
