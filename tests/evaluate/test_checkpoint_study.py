"""Models of any preset draw a user's prompts; the images are measured with what the user has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import Family
from PIL import Image
from torch import Tensor, nn

from linfusion_cli.cli.app import main
from linfusion_cli.errors import UsageError
from linfusion_cli.evaluate import checkpoint_study
from linfusion_cli.evaluate.checkpoint_study import CheckpointStudy, measured, run_checkpoint_study
from linfusion_cli.evaluate.study import StudyReport
from linfusion_cli.geometry import Size
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow  # all of them together


class Means(nn.Module):
    """In the place of Inception: the mean of each colour of nine parts."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, (3, 3)).flatten(1)


CPU = find_machine("cpu")
PROMPTS = ("a cat", "two dogs", "a red house")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        levels = np.random.default_rng(index).integers(0, 256, (160, 200, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def study(sd15: Family, tmp_path: Path) -> CheckpointStudy:
    return CheckpointStudy(folder=tmp_path / "study", preset=sd15.preset(), prompts=PROMPTS, size=Size(128, 96))


def report_of(work: Iterator[Any]) -> StudyReport:
    *_, report = work
    assert isinstance(report, StudyReport)
    return report


def test_a_study_is_made_once_and_goes_on(study: CheckpointStudy) -> None:
    first = report_of(run_checkpoint_study(study, CPU))
    assert study.missing == []
    assert {"repetition", "seams"} == first.rows["images"].keys()
    assert json.loads(first.path.read_text())["count"] == 3
    kept = study.image(0).stat().st_mtime_ns
    study.image(1).unlink()
    assert report_of(run_checkpoint_study(study, CPU)).rows == first.rows  # the same image, made again
    assert study.image(0).stat().st_mtime_ns == kept


def test_reference_images_give_distances_and_a_row(
    study: CheckpointStudy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_study, "inception_network", lambda *_: Means())
    report = report_of(run_checkpoint_study(replace(study, reference=photos), CPU))
    assert {"fid", "kid", "patch fid", "detail 2-4 px"} <= report.rows["images"].keys()
    assert report.rows["reference"]["detail 2-4 px"].value == pytest.approx(0)
    text = "\n".join(report.lines())
    assert "| | FID | KID, 1/1000 | FID of patches | repetition, % | seams | detail 2-4 px, dB |" in text
    assert "fidelity" not in text


def test_no_prompts_and_too_few_references_are_refused_before_any_work(
    study: CheckpointStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_study, "inception_network", lambda *_: Means())
    with pytest.raises(UsageError, match="there are no prompts"):
        list(run_checkpoint_study(replace(study, prompts=()), CPU))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 images in it; distances need two"):
        list(run_checkpoint_study(replace(study, reference=tmp_path / "empty"), CPU))
    assert not study.folder.exists()


def test_measures_are_one_number_an_image(photos: Path) -> None:
    found = measured(sorted(photos.iterdir()))
    assert {len(numbers) for numbers in found.values()} == {3}
    assert found.keys() >= {"repetition", "seams", "detail 2-4 px"}


def test_the_command_asks_for_what_it_needs(sd15: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("a cat\n# no prompt\ntwo dogs\n")
    words = ["evaluate", "--preset", sd15.preset(), "-o", str(tmp_path / "out"), "--size", "128x96"]
    assert main(words) == 2
    assert "--prompt-file FILE" in capsys.readouterr().err
    assert main([*words, "--prompts-file", str(lines), "--prompts", "3"]) == 2
    assert "Nearest: --prompts 2" in capsys.readouterr().err
    assert main([*words, "--prompts-file", str(lines), "--prompts", "2", "--dry-run"]) == 0
    assert "2 images of 128x96" in capsys.readouterr().out
    assert main([*words, "--prompts-file", str(lines), "--clip", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
