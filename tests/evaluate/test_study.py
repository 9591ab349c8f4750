"""`linfusion evaluate` from end to end, with few images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from linfusion_cli.cli.app import main
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.evaluate import ablations as claims_module
from linfusion_cli.evaluate.attributes import ATTRIBUTES, fixed_prompts
from linfusion_cli.evaluate.classifier import Classifier, load_classifier, save_classifier
from linfusion_cli.evaluate.classifier_training import accuracy, enlarged, render_lessons
from linfusion_cli.evaluate.inception import compare_folders
from linfusion_cli.evaluate.study import Measured, Study, _renders, measure, scores
from linfusion_cli.geometry import Size
from linfusion_cli.models import CLASSIFIER
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


def test_the_shipped_classifier_knows_renders() -> None:
    assert CLASSIFIER.stat().st_size < 10**6
    found = accuracy(load_classifier(CLASSIFIER), render_lessons(256, 55, 0.0))
    assert found["mean"] >= 0.95


def test_classifiers_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier, images = Classifier().eval(), torch.randint(0, 256, (3, 3, 128, 128), dtype=torch.uint8)
    save_classifier(classifier, tmp_path / "c.safetensors")
    again = load_classifier(tmp_path / "c.safetensors")
    assert torch.allclose(again.embed(images), classifier.embed(images), atol=1e-2)
    assert again.name(images)[0].keys() == ATTRIBUTES.keys()
    with pytest.raises(WeightsError, match="train_classifier"):
        load_classifier(tmp_path / "none.safetensors")


def test_enlarging_loses_detail() -> None:
    images = render_lessons(4, 1, 0.0).images.float() / 255
    assert torch.equal(enlarged(images, 1.0), images)
    changes = [enlarged(images, factor).diff(dim=3).abs().mean() for factor in (1.0, 2.0, 4.0)]
    assert changes[0] > changes[1] > changes[2]


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
        [1.0, 1.0],
        [[0.0] * 3] * 2,
        torch.zeros(2, 64),
        torch.zeros(8, 30),
    )
    found = scores(measured, measured)
    assert found["fidelity time"].value == found["fidelity"].value == 0.5
    assert not {"fidelity lake", "one body", "distance whole"} & found.keys()


def test_a_study_is_made_once(quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "-o", str(tmp_path / "study"), "--prompts", "3", "--preset", quick, "--device", "cpu"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "| pictures |" in first.out
    assert "| renders |" in first.out
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "study" / "pictures").iterdir())]
    assert main(words) == 0
    assert capsys.readouterr().out == first.out
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "study" / "pictures").iterdir())] == stamps
    report = json.loads((tmp_path / "study" / "report.json").read_text())
    assert 0 <= report["rows"]["pictures"]["fidelity"]["value"] <= 1
    assert (
        main(["evaluate", "-o", str(tmp_path / "none"), "--prompts", "3", "--preset", "sdxl-4k", "--device", "cpu"])
        == 66
    )
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
    stamps = [(tmp_path / "pictures" / name).stat().st_mtime_ns for name in ("00000.png", "00001.png")]
    assert main(words(4)) == 0
    assert [(tmp_path / "pictures" / name).stat().st_mtime_ns for name in ("00000.png", "00001.png")] == stamps
    assert len(asked()) == len(list((tmp_path / "pictures").iterdir())) == 4
    assert main(words(3)) == 0
    assert len(asked()) == 4
    assert json.loads((tmp_path / "report.json").read_text())["count"] == 3
    (tmp_path / "asked.json").write_text(json.dumps({"prompts": 3}))
    assert main(words(3)) == 74
    assert "can't be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "companion"),
    [("--minutes", "3", "--train-classifier"), ("--variants", "x", "--claims"), ("--inception", "x", "--images")],
)
def test_flags_that_would_do_nothing_are_refused(
    flag: str, value: str, companion: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "-o", str(tmp_path / "study"), flag, value]) == 2
    assert f"{flag} belongs to {companion}" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


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


def test_every_claim_is_a_row(
    quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims_module, "LARGE", 2)
    monkeypatch.setattr(claims_module, "UPSCALES", {"progressive": {}})
    monkeypatch.setattr(claims_module, "TIMES", (1,))
    words = ["evaluate", "--claims", "-o", str(tmp_path), "--prompts", "2", "--preset", quick, "--device", "cpu"]
    assert main(words) == 0
    first = capsys.readouterr()
    rows = [line.split("|")[1].strip() for line in first.out.splitlines() if "×" in line]
    assert rows == [
        "softmax, direct",
        "linear, direct",
        "progressive",
        "progressive, softmax",
        "linear, direct",
        "Lanczos enlargement",
    ]
    assert "no distilled causal attention" in first.err
    assert main(words) == 0
    assert capsys.readouterr().out == first.out


class Mean(nn.Module):
    """A feature network for the test: nine numbers per image."""

    num_features = 9

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float(), (3, 1)).flatten(1).double()


def test_folders_of_images(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    for name, low in (("a", 0), ("b", 0), ("c", 100)):
        (tmp_path / name).mkdir()
        for index in range(30):
            levels = (
                np.random.default_rng(index)
                .integers(low, low + 100, (1, 1, 3), dtype=np.uint8)
                .repeat(20, 0)
                .repeat(20, 1)
            )
            Image.fromarray(levels).save(tmp_path / name / f"{index}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    cpu = "cpu"
    lines = list(compare_folders(tmp_path / "a", tmp_path / "b", None, cpu, Mean()))
    assert lines[1].endswith("30 images, 1 skipped: broken.png: UnidentifiedImageError")
    assert abs(float(lines[-1].split()[1])) < 1e-3
    far = float(list(compare_folders(tmp_path / "c", tmp_path / "b", None, cpu, Mean()))[-1].split()[1])
    assert far == pytest.approx(9 * 100**2, rel=0.01)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 of 0 images"):
        list(compare_folders(tmp_path / "empty", tmp_path / "b", None, cpu, Mean()))


def test_fid_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert main(["evaluate", "--images", str(tmp_path)]) == 2
    assert "belong together" in capsys.readouterr().err
    assert main(["evaluate", "--images", str(tmp_path), "--reference", str(tmp_path), "--inception", "none.pth"]) == 66
    assert main(["evaluate", "--images", str(tmp_path), "--reference", str(tmp_path)]) in (2, 66)
    assert "linfusion-cli[eval]" in (text := capsys.readouterr().err) or "Inception's weights" in text
