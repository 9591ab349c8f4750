"""Settings of each config with other values: each makes the image of plain diffusers, or plan and loading refuse it."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, Family, loaded_pipeline, make_family

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning import planner
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

CONFIGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json", "text_encoder_2/config.json")
CONFIGS += ("scheduler/scheduler_config.json", "model_index.json")
TRIED = 16  # values of each family; all of them are about 1400
# What a config says in vain: "dtype" and the like of a file that the reference can't read at other values.
UNREAD = ("dtype", "torch_dtype", "initializer_factor", "initializer_range", "attention_dropout", "model_type")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def others(value: Any) -> list[Any]:
    """Values of a setting's own type and of other ones."""
    if isinstance(value, bool):
        return [not value, None, 1, "x"]
    if isinstance(value, int | float):
        return [value * 2, value + 1, value / 2, 0, -1, None, "x"]
    if isinstance(value, str):
        return ["", "x", None, 1, [value]]
    if isinstance(value, list):
        return [value[::-1], value[:1], value * 2, None, 3, "x"]
    return [1, 0, True, "x", [1], 2.5]


def plan_for(family: Family) -> Plan:
    fixed = {"prompt": "a lake", "negative_prompt": "fog", "preset": family.preset(), "size": "64x64", "seed": 3}
    request = Request(**{**fixed, "attention": "softmax", "output": Path("x.png")})
    return make_plan(resolve(request), find_machine("cpu"))


def planned(family: Family) -> tuple[str, Plan | None]:
    """What the plan says, or the plan."""
    try:
        return "", plan_for(family)
    except WeightsError as error:
        return str(error), None


def ours(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, lambda _: None))
    return last.astype(float)


def theirs(family: Family) -> np.ndarray | None:
    """The image of diffusers; None for a value that it does not check and fails on."""
    words = {"prompt": "a lake", "negative_prompt": "fog", "num_inference_steps": 4, "guidance_scale": 3.0}
    size = {"height": 64, "width": 64, "latents": gaussian((1, 4, 8, 8), 3, 0), "output_type": "np"}
    try:
        return np.asarray(loaded_pipeline(family)(**words, **size).images[0]) * 255
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return None


def refused_by_loading(family: Family, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as patch:
        patch.setattr(planner, "check_inputs", lambda *_: None)
        try:
            plan = plan_for(family)
            load(plan, load_text_encoders(plan), lambda _: None)
        except (WeightsError, TypeError, ArithmeticError):  # the plan's own sums believe what the checks have passed
            return True
    return False


@pytest.mark.slow
@pytest.mark.covers("each setting of each config, with other values", "used, or refused with its name")
def test_a_setting_acts_as_in_diffusers_or_is_refused(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans refuse a few that loading alone would not notice, as wrong sizes of an embedding: never the other way."""
    paths = [family.folder / name for name in CONFIGS if (family.folder / name).exists()]
    whole = {path: json.loads(path.read_text()) for path in paths}
    tried = [
        (path, key, value)
        for path in paths
        for key, own in whole[path].items()
        if key not in UNREAD and not key.startswith("_diffusers")
        for value in others(own)
    ]
    used = refused = alike = 0
    for path, key, value in random.Random(f"{family.name} ").sample(tried, TRIED):
        path.write_text(json.dumps(whole[path] | {key: value}))
        message, plan = planned(family)
        if plan is not None:
            image, reference = ours(plan), theirs(family)
            assert reference is None or np.abs(image - reference).max() <= 1, (path, key, value)
            used += reference is not None
        else:
            assert str(family.folder) in message, (path, key, value)
            refused += 1
            alike += refused_by_loading(family, monkeypatch)
        path.write_text(json.dumps(whole[path]))
    assert used
    assert refused - 2 <= alike <= refused
