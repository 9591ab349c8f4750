"""A batch with a model whose weights hold NaN: its images fail by name, and the others are made."""

import json
import math
from pathlib import Path

import pytest
from families import make_family
from safetensors.torch import load_file, save_file

from linfusion_cli.cli.app import main
from linfusion_cli.errors import NotFiniteError


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code", "sound"), [(["--keep-going"], 1, 1), ([], NotFiniteError.exit_code, 0)])
def test_images_of_damaged_weights_fail_and_the_others_are_made(
    words: list[str], code: int, sound: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = make_family("sd15", tmp_path / "family")
    (weights,) = (family.folder / "unet").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["conv_in.weight"].view(-1)[0] = math.nan
    save_file(tensors, weights, {"format": "pt"})
    jobs = [{"prompt": "a lake", "preset": family.preset()}, {"prompt": "a hill", "preset": "landscape", "steps": 1}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({**job, "size": "64x64"}) + "\n" for job in jobs))
    folder = tmp_path / "out"
    assert main(["batch", str(tmp_path / "list.jsonl"), "-o", str(folder), *words]) == code
    shown = capsys.readouterr().err
    assert "conv_in.weight of UNet2DConditionModel holds values that are not numbers" in shown
    assert f"{sound} made" in shown
    assert "1 failed" in shown
    assert len(list(folder.glob("*.png"))) == sound
    (journal,) = (folder / ".linfusion").glob("journal*.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["exit_code"] for row in events if row["event"] == "failed"] == [NotFiniteError.exit_code]
    assert len([row for row in events if row["event"] == "done"]) == sound
    assert not list(folder.rglob("*.safetensors"))
