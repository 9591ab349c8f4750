"""The ways that the bench compares do the same work, and its numbers are of the runs."""

import time
from pathlib import Path

import pytest
import torch

from bench import peers
from bench.gpu.models import tiny_models
from bench.peers import Networks, Row, beside, decodes, measured, passes, table
from linfusion_cli.geometry import Size


@pytest.mark.slow
def test_all_ways_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks in float32, without the official code and OpenVINO; softmax beside no other attention."""
    monkeypatch.setattr(peers, "in_openvino", _not_installed)
    models, presets = tiny_models("sd15", "cpu", tmp_path)
    networks = Networks.of(models, presets["4k"], "float32")
    rows = passes(Size(128, 64), networks, None, 1) + decodes(Size(128, 64), networks, 1)
    assert [row.way.partition(",")[0] for row in rows] == [
        "ours",
        "ours",
        "diffusers",
        "diffusers",
        "ours",
        "diffusers",
    ]
    assert all(row.difference < 2e-5 and row.seconds > 0 for row in rows)
    assert len(table(rows).splitlines()) == 2 + len(rows)


def _not_installed(*_: object) -> None:
    raise ImportError("openvino")


def test_the_fastest_run_and_the_highest_peak_count(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([(3.0, 5_000_000_000), (2.0, 1), (2.5, 6_000_000_000), (4.0, None)])

    monkeypatch.setattr(peers, "measured", lambda run: (run(), *next(runs)))
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.5])
    assert beside("work", {"a": lambda: one, "b": lambda: other}, 2) == [
        Row("work", "a", 2.5, 6.0, 0.0),
        Row("work", "b", 2.0, None, 0.25),
    ]
    assert beside("work", {}, 2) == []


def test_a_peak_is_what_a_run_adds() -> None:
    """Where the system tells it: memory that is freed before the run ends counts, what was held before does not."""
    kept = torch.ones(1 << 24)
    _, seconds, peak = measured(lambda: (torch.ones(1 << 23), time.sleep(0.01))[0])
    assert seconds >= 0.01
    assert peak is None or 0.9 * (1 << 25) < peak < 0.9 * kept.nbytes + (1 << 25)
