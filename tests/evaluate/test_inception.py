"""Distances of folders of images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from linfusion_cli.cli.app import main
from linfusion_cli.errors import UsageError
from linfusion_cli.evaluate.inception import InceptionDistance, compare_folders
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


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
    assert str(lines[1]).endswith("30 images, 1 skipped: broken.png: UnidentifiedImageError")
    near = lines[-1]
    assert isinstance(near, InceptionDistance)
    assert abs(near.fid) < 1e-3
    far = list(compare_folders(tmp_path / "c", tmp_path / "b", None, cpu, Mean()))[-1]
    assert isinstance(far, InceptionDistance)
    assert far.fid == pytest.approx(9 * 100**2, rel=0.01)
    assert list(far.lines()) == [f"FID {far.fid:.3f}"]
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
