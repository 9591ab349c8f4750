"""What is loaded when: what reads a prompt first, what draws it after; both once where they stay."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Family, loaded_pipeline, make_family
from PIL import Image
from tiny_adapters import save_ip_adapter, save_loras

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components import model_cache as module
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.engine.components.text_encoders import TextEncoders
from linfusion_cli.engine.components.unet_and_vae import Components, load
from linfusion_cli.errors import WeightsError
from linfusion_cli.events import Event, Notify
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(family: Family, *, stay: bool, **changes: Any) -> Plan:
    fixed = {"prompt": "a lake", "preset": family.preset(), "size": "64x64", "seed": 3, "output": Path("x.png")}
    return make_plan(resolve(Request(**{**fixed, **changes})), find_machine("cpu"), keep_text_encoders=stay)


def quiet(event: Event) -> None:
    assert event is not None


def hollow(network: Any) -> bool:
    return all(value.is_meta for value in network.parameters())


def on_top(family: Family, folder: Path) -> dict[str, Any]:
    """A LoRA and an IP-Adapter: both are read before the UNet they go on."""
    pipeline = loaded_pipeline(family)
    Image.new("RGB", (64, 64)).save(folder / "style.png")
    adapter = str(save_ip_adapter(pipeline, folder / "ip"))
    return {
        "loras": (str(save_loras(pipeline, folder)[0]),),
        "ip_adapter": adapter,
        "ip_images": (folder / "style.png",),
    }


@pytest.mark.parametrize("stay", [True, False])
def test_what_reads_is_gone_before_what_draws_is_loaded_unless_it_stays(
    family: Family, stay: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def read(text_encoders: TextEncoders, *rest: Any) -> Any:
        assert hollow(text_encoders.pipeline.unet)
        encoders.extend(weakref.ref(encoder) for encoder in text_encoders.modules)
        return encode(text_encoders, *rest)

    def draw(plan: Plan, text_encoders: TextEncoders, notify: Notify) -> Components:
        seen.append(sum(reference() is not None for reference in encoders))
        return load(plan, text_encoders, notify)

    encoders: list[weakref.ref[Any]] = []
    encode = module.encode
    monkeypatch.setattr(module, "encode", read)
    monkeypatch.setattr(module, "load", draw)
    conditioning, models = ModelCache().take(plan_for(family, stay=stay, **on_top(family, tmp_path)), quiet)
    count = 3 if family.name == "sdxl" else 2
    assert len(encoders) == count
    assert seen == [count if stay else 0]
    assert not hollow(models.unet)
    assert conditioning.embeddings.isfinite().all()
    assert conditioning.images.numel()


def test_models_that_stay_serve_the_next_image_and_no_other_kind(family: Family) -> None:
    model_cache = ModelCache()
    first, models = model_cache.take(plan_for(family, stay=True), quiet)
    second, same = model_cache.take(plan_for(family, stay=True, prompt="a hill", seed=4), quiet)
    assert same is models
    assert not torch.equal(first.embeddings, second.embeddings)
    _, others = model_cache.take(plan_for(family, stay=True, dtype="bfloat16"), quiet)
    assert others is not models
    assert others.unet.dtype == torch.bfloat16
    _, alone = model_cache.take(plan_for(family, stay=False), quiet)
    again, loaded_again = model_cache.take(plan_for(family, stay=False), quiet)  # its text_encoders have gone
    assert loaded_again is not alone
    assert torch.equal(again.embeddings, first.embeddings)


def test_a_load_that_fails_leaves_nothing_half_done(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Components:
        raise WeightsError("torn")

    model_cache, plan = ModelCache(), plan_for(family, stay=True)
    with monkeypatch.context() as patch:
        patch.setattr(module, "load", refuse)
        with pytest.raises(WeightsError):
            model_cache.take(plan, quiet)
    _, models = model_cache.take(plan, quiet)
    assert not hollow(models.unet)


@pytest.mark.parametrize("stays", [True, False])
def test_the_components_leave_the_device_only_where_the_plan_says_so(
    family: Family, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bool] = []
    monkeypatch.setattr(Components, "leave_device", lambda self: left.append(True))
    model_cache, plan = ModelCache(), replace(plan_for(family, stay=True), components_stay=stays)
    _, models = model_cache.take(plan, quiet)
    models.mounted.attend("linear")
    model_cache.take(plan, quiet)
    assert left == ([] if stays else [True])
    assert models.mounted.attend("softmax") is models.unet
    assert not models.mounted._linear
