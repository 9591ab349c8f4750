"""The lessons of the classifier."""

import pytest
import torch

from linfusion_cli.evaluate.classifier_training import enlarged, render_lessons
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


def test_enlarging_loses_detail() -> None:
    images = render_lessons(4, 1, 0.0).images.float() / 255
    assert torch.equal(enlarged(images, 1.0), images)
    changes = [enlarged(images, factor).diff(dim=3).abs().mean() for factor in (1.0, 2.0, 4.0)]
    assert changes[0] > changes[1] > changes[2]
