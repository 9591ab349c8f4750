"""The shipped classifier knows renders, and classifiers are kept."""

from pathlib import Path

import pytest
import torch

from linfusion_cli.errors import WeightsError
from linfusion_cli.evaluate.attributes import ATTRIBUTES
from linfusion_cli.evaluate.classifier import Classifier, load_classifier, save_classifier
from linfusion_cli.evaluate.classifier_training import accuracy, render_lessons
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
