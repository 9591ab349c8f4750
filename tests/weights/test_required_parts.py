"""A model has each part that loading reads; the rest is in tests/scenarios/test_planned_refusals.py."""

import shutil
from pathlib import Path

import pytest
from families import make_family

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.required_parts import require_parts
from linfusion_cli.weights.weight_file import WeightFile


def test_only_the_parts_of_the_family_are_required_and_those_that_nothing_replaces(tmp_path: Path) -> None:
    small = make_family("sd15", tmp_path / "all")
    folder = Path(shutil.copytree(small.folder, tmp_path / "model", ignore=shutil.ignore_patterns("vae")))
    model = WeightFile.resolve((str(folder),), "", "model")
    require_parts(model, folder, ("vae",), two_text_encoders=False)
    with pytest.raises(WeightsError, match=r"vae/config\.json"):
        require_parts(model, folder, (), two_text_encoders=False)
    with pytest.raises(WeightsError, match=r"text_encoder_2/config\.json"):
        require_parts(model, folder, ("vae",), two_text_encoders=True)
    file = WeightFile.resolve((str(small.file),), "", "model")
    require_parts(file, small.folder, (), two_text_encoders=False)
