"""`linfusion evaluate` from end to end, with few images."""

import json
from pathlib import Path

import pytest
import torch

from linfusion_cli.cli.app import main
from linfusion_cli.errors import UsageError
from linfusion_cli.evaluate.attributes import fixed_prompts
from linfusion_cli.evaluate.classifier import load_classifier
from linfusion_cli.evaluate.classifier_training import enlarged, render_lessons
from linfusion_cli.evaluate.study import Measured, Study, _renders, measure, scores
from linfusion_cli.geometry import Size
from linfusion_cli.models import CLASSIFIER
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


def test_renders_are_near_renders_and_blurred_ones_far(tmp_path: Path) -> None:
    classifier, asked = load_classifier(CLASSIFIER), fixed_prompts(80, 3)
    study = Study(folder=tmp_path, size=Size(128, 128), count=80)
    theirs, others = (_renders(study, asked, classifier, CPU, name) for name in "ab")
    near = scores(others, theirs)
    soft = (enlarged(render_lessons(80, 2, 0.0).images.float() / 255, 2.0) * 255).byte()
    far = scores(measure(iter(soft), asked, classifier, 0), theirs)
    assert near["fidelity"].value > 0.93
    assert far["distance whole"].value > 2 * near["distance whole"].value
    assert far["distance crops"].value > 5 * near["distance crops"].value
    assert far["detail 2-4 px"].value < -6 < near["detail 2-4 px"].value
    assert far["fidelity"].value < near["fidelity"].value, "other scenes than the prompts ask for"


def test_what_was_not_asked_is_not_scored() -> None:
    measured = Measured(
        {"time": [1.0, 0.0], "lake": [], "fog": [1.0]},
        [],
        [],
        [1.0, 1.0],
        [[0.0] * 3] * 2,
        torch.zeros(2, 64),
        torch.zeros(8, 30),
    )
    found = scores(measured, measured)
    assert found["fidelity time"].value == found["fidelity"].value == 0.5
    assert not {"fidelity lake", "one body", "discs", "distance whole"} & found.keys()


def test_a_study_is_made_once(quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "-o", str(tmp_path / "study"), "--prompts", "3", "--preset", quick, "--device", "cpu"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "| images |" in first.out
    assert "| renders |" in first.out
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "study" / "images").iterdir())]
    assert main(words) == 0
    assert capsys.readouterr().out == first.out
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "study" / "images").iterdir())] == stamps
    report = json.loads((tmp_path / "study" / "report.json").read_text())
    assert 0 <= report["rows"]["images"]["fidelity"]["value"] <= 1
    other = ["evaluate", "-o", str(tmp_path / "none"), "--preset", "sdxl-4k", "--device", "cpu"]
    assert main(other) == 2
    (tmp_path / "prompts.txt").write_text("a cat\n")
    assert main([*other, "--prompt-file", str(tmp_path / "prompts.txt")]) == 66
    assert not (tmp_path / "none").exists()  # what could not begin claims no folder
    assert main([*words, "--seed", "2"]) == 2
    assert "holds another evaluation: seed differs" in capsys.readouterr().err


def test_a_study_can_grow_and_be_read_in_part(quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def words(count: int) -> list[str]:
        return ["evaluate", "-o", str(tmp_path), "--prompts", str(count), "--preset", quick, "--device", "cpu"]

    def asked() -> list[str]:
        prompts: list[str] = json.loads((tmp_path / "asked.json").read_text())["prompts"]
        return prompts

    assert main(words(2)) == 0
    (tmp_path / "images").rename(tmp_path / "pictures")  # as 0.1.0 named it
    stamps = [(tmp_path / "pictures" / name).stat().st_mtime_ns for name in ("00000.png", "00001.png")]
    assert main(words(4)) == 0
    assert [(tmp_path / "pictures" / name).stat().st_mtime_ns for name in ("00000.png", "00001.png")] == stamps
    assert len(asked()) == len(list((tmp_path / "pictures").iterdir())) == 4
    assert not (tmp_path / "images").exists()
    assert main(words(3)) == 0
    assert len(asked()) == 4
    assert json.loads((tmp_path / "report.json").read_text())["count"] == 3
    (tmp_path / "asked.json").write_text(json.dumps({"prompts": 3}))
    assert main(words(3)) == 74
    assert "can't be used" in capsys.readouterr().err


def test_an_upscaled_study_has_a_lanczos_row(quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "evaluate",
                "-o",
                str(tmp_path),
                "--prompts",
                "2",
                "--size",
                "256x256",
                "--preset",
                quick,
                "--device",
                "cpu",
                "--quiet",
            ]
        )
        == 0
    )
    assert "| lanczos |" in capsys.readouterr().out


def test_prompts_of_ones_own(quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("# two\nred hills at dawn, sun\n\na lake at night\n")
    words = [
        "evaluate",
        "-o",
        str(tmp_path / "study"),
        "--preset",
        quick,
        "--device",
        "cpu",
        "--prompt-file",
        str(tmp_path / "prompts.txt"),
    ]
    assert main(words) == 0
    assert "| fidelity, % | time | terrain | tint | body |" in capsys.readouterr().out
    (tmp_path / "prompts.txt").write_text("# none\n")
    assert main(words) == 2
    assert "there is no prompt in it" in capsys.readouterr().err
    assert main(["evaluate"]) == 2
    assert "-o FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("size", [Size(160, 96), Size(64, 512)])
def test_images_smaller_than_a_crop_are_refused_before_any_is_made(tmp_path: Path, size: Size) -> None:
    with pytest.raises(UsageError, match=f"size {size}: crops of 128x128 are measured. Nearest: ") as caught:
        Study(folder=tmp_path, size=size).asked()
    width, height = map(int, str(caught.value).rpartition(" ")[2].split("x"))
    assert Study(folder=tmp_path, size=Size(width, height), count=1).asked()
