"""What an evaluation would make: only what is missing counts, and nothing is written."""

from pathlib import Path

import pytest

from linfusion_cli.evaluate.dry_run import EvaluationPlan, plan_claims, plan_study
from linfusion_cli.evaluate.samples import IMAGES, Way, image_path
from linfusion_cli.evaluate.study import REPORT, Study
from linfusion_cli.geometry import Size
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


def study_in(folder: Path, way: Way) -> Study:
    return Study(folder=folder, size=Size(256, 256), way=way, count=4)


@pytest.mark.parametrize("way", [Way(), Way(attention="softmax"), Way(direct=True)])
def test_images_that_exist_are_not_made_again(tmp_path: Path, way: Way) -> None:
    (whole,) = plan_study(study_in(tmp_path, way), CPU)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / IMAGES).mkdir()
    for index in (0, 3):
        image_path(tmp_path / IMAGES, index).touch()
    (half,) = plan_study(study_in(tmp_path, way), CPU)
    assert (whole.studies[0].existing, half.studies[0].existing) == (0, 2)
    assert 0 < half.seconds < whole.seconds < 2 * half.seconds, "the model is loaded once"
    assert "4 images of 256x256, 2 of them exist" in next(half.lines())


def test_a_claim_that_was_measured_takes_no_time(tmp_path: Path) -> None:
    def planned() -> EvaluationPlan:
        *notes, plan = plan_claims(tmp_path, tmp_path, "landscape", 8, 0, CPU)
        assert all("no distilled" in str(note) for note in notes)
        assert isinstance(plan, EvaluationPlan)
        return plan

    before = planned()
    first = before.studies[0]
    assert first.name == "softmax, direct at 128x128"
    (tmp_path / "softmax-direct-128x128-8").mkdir()
    (tmp_path / "softmax-direct-128x128-8" / REPORT).touch()
    after = planned()
    assert (after.studies[0].existing, after.studies[0].seconds) == (8, 0.0)
    assert after.seconds == pytest.approx(before.seconds - first.seconds)
    assert len(list(after.lines())) == len(after.studies) + 1
