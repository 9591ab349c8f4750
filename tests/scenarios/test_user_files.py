"""User files that do not fit, and what must not matter: refusals that name the reason, strength 0, bands, inverses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family, tensors_of, truncated
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import Components, load
from linfusion_cli.engine.pipeline import images
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.events import Event, Note, Notify
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("a") / "all")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sdxl", tmp_path_factory.mktemp("b") / "all")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("p") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)).resize((160, 96)).save(path)
    return path


def plan_for(preset: str, size: str = "64x64", **changes: Any) -> Plan:
    request = Request(
        **{"prompt": "a lake", "preset": preset, "size": size, "seed": 3, "output": Path("x.png"), **changes}
    )
    return make_plan(resolve(request), find_machine("cpu"))


def quiet(event: Event) -> None:
    assert event is not None


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, quiet))
    return last.astype(float)


def loaded(plan: Plan, notify: Notify = quiet) -> Components:
    return load(plan, load_text_encoders(plan), notify)


def refusal(plan: Plan) -> str:
    with pytest.raises(WeightsError) as caught:
        loaded(plan)
    return told(caught.value)


@pytest.mark.covers(
    "LoRA, ControlNet, IP-Adapter or LinFusion weights of another family", "refused", families=("sd15",)
)
def test_lora_of_another_family_names_the_first_layer(small: Family, other: Family, tmp_path: Path) -> None:
    for path in save_loras(loaded_pipeline(other), tmp_path):
        with pytest.raises(WeightsError, match="for another model"):
            make(plan_for(small.preset(), loras=(str(path),)))


def test_what_is_put_behind_the_wrong_flag_is_said(small: Family, tmp_path: Path) -> None:
    lora = str(save_loras(loaded_pipeline(small), tmp_path)[0])
    with pytest.raises(WeightsError, match="Did you mean model"):
        plan_for(small.preset(), loras=(str(small.file),))
    with pytest.raises(WeightsError, match="looks like: lora, not vae"):
        plan_for(small.preset(), vae=lora)
    with pytest.raises(WeightsError, match="Did you mean lora"):
        plan_for(small.preset(), model=lora)


@pytest.mark.covers(
    "LoRA, ControlNet, IP-Adapter or LinFusion weights of another family", "refused", families=("sd15",)
)
def test_controlnet_and_ip_adapter_of_another_family(small: Family, other: Family, tmp_path: Path, image: Path) -> None:
    pipeline = loaded_pipeline(other)
    net = save_controlnet(pipeline, tmp_path / "net")
    with pytest.raises(WeightsError, match="for Stable Diffusion XL, not for this model"):
        plan_for(small.preset(), controlnets=(str(net),), control_images=(image,))
    adapter = save_ip_adapter(pipeline, tmp_path / "ip")
    with pytest.raises(WeightsError, match="reads text of width 40, the model's is 16"):
        plan_for(small.preset(), ip_adapter=str(adapter), ip_images=(image,))


@pytest.mark.covers(
    "LoRA, ControlNet, IP-Adapter or LinFusion weights of another family", "refused", families=("sd15",)
)
def test_linfusion_of_another_family(small: Family, other: Family) -> None:
    with pytest.raises(WeightsError, match="LinFusion weights of another model"):
        plan_for(small.preset(), linfusion=str(other.linfusion))


def test_a_model_of_another_family_than_the_preset(small: Family, other: Family) -> None:
    with pytest.raises(UsageError, match=r"family sdxl .* preset .* is for sd15 .* Nearest: preset=.sdxl-4k"):
        plan_for(small.preset(), model=str(other.file))
    assert resolve(Request(prompt="x", model=str(other.file))).preset == "sdxl-4k"
    text = Path(small.preset()).read_text().replace(str(small.folder), str(other.folder), 1)
    (small.presets / "wrong.toml").write_text(text)
    with pytest.raises(WeightsError, match="of the family sdxl"):
        plan_for(str(small.presets / "wrong.toml"))


@pytest.mark.parametrize("file", [True, False])
def test_torn_weights_are_refused_before_anything_is_made(small: Family, tmp_path: Path, file: bool) -> None:
    if file:
        with pytest.raises(WeightsError, match="cut off"):
            plan_for(small.preset(), model=str(truncated(small.file, tmp_path)))
        return
    torn = truncated(small.linfusion / "diffusion_pytorch_model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text((small.linfusion / "config.json").read_text())
    with pytest.raises(WeightsError, match="cut off"):
        plan_for(small.preset(), linfusion=str(torn.parent))


def test_a_checkpoint_in_pickle_is_refused(small: Family, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    with pytest.raises(WeightsError, match="pickles, which run any code"):
        plan_for(small.preset(), model=str(tmp_path / "model.ckpt"))


def test_everything_comes_off_again_and_leaves_the_unet_as_it_was(small: Family, tmp_path: Path, image: Path) -> None:
    pipeline = loaded_pipeline(small)
    given: dict[str, Any] = {
        "loras": tuple(str(path) for path in save_loras(pipeline, tmp_path)),
        "ip_images": (image,),
    }
    given["ip_adapter"] = str(save_ip_adapter(pipeline, tmp_path / "ip"))
    plain = loaded(plan_for(small.preset()))
    models = loaded(plan_for(small.preset(), **given))
    for attention in ("linear", "softmax", "linear"):
        models.mounted.attend(attention)
    models.mounted.unmount()
    assert repr(models.unet) == repr(plain.unet)
    ours, theirs = models.unet.state_dict(), plain.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {name: type(processor) for name, processor in models.unet.attn_processors.items()} == {
        name: type(processor) for name, processor in plain.unet.attn_processors.items()
    }


def test_lora_controlnet_and_ip_adapter_work_at_every_stage_and_in_bands(
    small: Family, tmp_path: Path, image: Path
) -> None:
    import dataclasses

    from linfusion_cli.planning.upscale_schedule import Bands

    pipeline = loaded_pipeline(small)
    one = save_loras(pipeline, tmp_path)[0]
    for given in (
        {"loras": (f"{one}:0.5",)},
        {"controlnets": (str(save_controlnet(pipeline, tmp_path / "net")),), "control_images": (image,)},
        {"ip_adapter": str(save_ip_adapter(pipeline, tmp_path / "ip")), "ip_images": (image,)},
    ):
        plan = plan_for(small.preset(), "104x128", attention="linear", **given)
        assert len(plan.stages) == 2
        whole = make(
            dataclasses.replace(
                plan,
                stages=tuple(
                    dataclasses.replace(stage, bands=Bands(0, 1000, stage.bands.keep)) for stage in plan.stages
                ),
            )
        )
        banded = make(
            dataclasses.replace(
                plan,
                stages=tuple(dataclasses.replace(stage, bands=Bands(3, 24, stage.bands.keep)) for stage in plan.stages),
            )
        )
        assert np.abs(whole - banded).max() <= 1, given
        assert np.abs(whole - make(plan_for(small.preset(), "104x128", attention="linear"))).max() > 1


def test_textual_inversion(small: Family, tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(2, 16) * 3}, tmp_path / "moody.safetensors")
    words = {"textual_inversions": (str(tmp_path / "moody.safetensors"),), "prompt": "a moody lake"}
    plain = make(plan_for(small.preset(), prompt="a moody lake"))
    ours = make(plan_for(small.preset(), **words))
    assert not np.array_equal(ours, plain)
    named = {"textual_inversions": (f"{tmp_path / 'moody.safetensors'}:<mine>",), "prompt": "a <mine> lake"}
    assert not np.array_equal(
        make(plan_for(small.preset(), **named)), make(plan_for(small.preset(), prompt="a <mine> lake"))
    )
    with pytest.raises(WeightsError, match=r"already\. Name another"):
        plan_for(small.preset(), textual_inversions=(f"{tmp_path / 'moody.safetensors'}:lake</w>",))
    save_file({"emb_params": torch.randn(2, 24)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="for another family"):
        plan_for(small.preset(), textual_inversions=(str(tmp_path / "foreign.safetensors"),))


def test_upscale_starts_from_the_image(small: Family, image: Path, tmp_path: Path) -> None:
    plan = plan_for(small.preset(), "320x192", prompt="", upscale_image=image, upscale_strength=0.25)
    assert [str(stage.size) for stage in plan.stages] == ["160x96", "320x192"]
    assert [phase.name for phase in plan.phases] == ["load", "encode", "encode", "denoise", "decode"]
    events: list[Event] = []
    drawn = [np.concatenate(list(made.rows)) for made in images(plan, events.append)]
    assert [rows.shape for rows in drawn] == [(192, 320, 3)]
    stronger = make(plan_for(small.preset(), "320x192", prompt="", upscale_image=image, upscale_strength=1.0))
    assert not np.array_equal(drawn[0], stronger)
    Image.fromarray(255 - np.asarray(Image.open(image))).save(tmp_path / "photo.png")
    changed = plan_for(
        small.preset(), "320x192", prompt="", upscale_image=tmp_path / "photo.png", upscale_strength=0.25
    )
    assert not np.array_equal(drawn[0], make(changed))
    assert job_hash(changed.job) != job_hash(plan.job)


def test_control_image_of_another_aspect_is_fitted_and_said(small: Family, tmp_path: Path, image: Path) -> None:
    net = save_controlnet(loaded_pipeline(small), tmp_path / "net")
    plan = plan_for(small.preset(), "64x64", controlnets=(str(net),), control_images=(image,))
    assert plan.notes == (
        "control_images photo.png: 160x96 is fitted to the shape of 64x64 by cutting off 40 % at left and right",
    )
    edges = make(
        plan_for(small.preset(), "64x64", controlnets=(str(net),), control_images=(image,), control_preprocess="canny")
    )
    assert not np.array_equal(edges, make(plan))
    with pytest.raises(UsageError, match="1 of controlnets and 0 of control_images"):
        plan_for(small.preset(), controlnets=(str(net),))


def test_v_prediction_and_zero_terminal_snr(small: Family) -> None:
    images_of = {
        kind: make(plan_for(small.preset(), prediction=kind))
        for kind in ("epsilon", "v_prediction", "v_prediction_zero_snr")
    }
    assert np.array_equal(images_of["epsilon"], make(plan_for(small.preset())))
    assert len({rows.tobytes() for rows in images_of.values()}) == 3
    told: list[Event] = []
    config = loaded(plan_for(small.preset(file=True)), told.append).scheduler_config
    assert config["prediction_type"] == "epsilon"
    tensors = tensors_of(small.file) | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    save_file(tensors, small.presets / "v.safetensors")
    config = loaded(plan_for(small.preset(), model=str(small.presets / "v.safetensors"))).scheduler_config
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert not [event for event in told if isinstance(event, Note)]


def test_a_zero_snr_schedule_refuses_schedulers_that_would_ignore_it(small: Family) -> None:
    with pytest.raises(UsageError, match="zero terminal SNR"):
        make(plan_for(small.preset(), prediction="v_prediction_zero_snr", scheduler="pndm"))
