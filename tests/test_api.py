"""The public API: diffusers pipelines with linear attention and in bands, images from Python, an unchanged host."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family
from PIL import Image
from tiny_adapters import save_loras

import linfusion_cli
from linfusion_cli.errors import OutOfMemoryError, UsageError, WeightsError
from linfusion_cli.events import Event, PhaseFinished

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("api") / "all")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sdxl", tmp_path_factory.mktemp("other") / "all")


def draw(pipeline: Any) -> np.ndarray:
    images = pipeline(
        "a lake",
        num_inference_steps=2,
        height=64,
        width=64,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).images
    return np.asarray(images[0])


def test_mount_changes_the_pipeline_and_unmount_undoes_it_exactly(family: Family) -> None:
    pipeline = loaded_pipeline(family)
    before, printed = draw(pipeline), repr(pipeline.unet)
    handle = linfusion_cli.mount(pipeline, family.linfusion)
    assert not np.array_equal(draw(pipeline), before)
    handle.unmount()
    handle.unmount()  # is done already
    assert repr(pipeline.unet) == printed
    assert np.array_equal(draw(pipeline), before)


def test_mounted_undoes_after_an_exception(family: Family) -> None:
    unet = loaded_pipeline(family).unet
    printed = repr(unet)
    handle = linfusion_cli.mounted(unet, str(family.linfusion), keep_projections=True)
    with contextlib.suppress(KeyError), handle:
        assert repr(unet) != printed
        raise KeyError
    assert repr(unet) == printed


def test_a_model_that_mount_refuses_stays_as_it_was(family: Family, other: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    printed = repr(pipeline.unet)
    with pytest.raises(WeightsError, match="of another model"):
        linfusion_cli.mount(pipeline, other.linfusion)
    with pytest.raises(UsageError, match=r"text of width 16.*name weights"):
        linfusion_cli.mount(pipeline)
    with pytest.raises(WeightsError, match="no such file or folder"):
        linfusion_cli.mount(pipeline, tmp_path / "nothing")
    with pytest.raises(UsageError, match="neither a diffusers pipeline"):
        linfusion_cli.mount(object(), family.linfusion)
    assert repr(pipeline.unet) == printed
    handle = linfusion_cli.mount(pipeline, family.linfusion)
    with pytest.raises(UsageError, match="unmount it first"):
        linfusion_cli.mount(pipeline, family.linfusion)
    handle.unmount()
    assert repr(pipeline.unet) == printed


def test_a_lora_is_neither_lost_on_the_way_on_nor_on_the_way_off(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    lora = save_loras(pipeline, tmp_path)[1]
    pipeline.load_lora_weights(str(lora))
    with pytest.raises(UsageError, match=r"a LoRA is loaded.*load it again"):
        linfusion_cli.mount(pipeline, family.linfusion)
    pipeline.unload_lora_weights()
    handle = linfusion_cli.mount(pipeline, family.linfusion)
    plain = draw(pipeline)
    pipeline.load_lora_weights(str(lora))
    with_lora = draw(pipeline)
    assert not np.array_equal(with_lora, plain)
    with pytest.raises(UsageError, match="unload it first"):
        handle.unmount()
    assert np.array_equal(draw(pipeline), with_lora)
    pipeline.unload_lora_weights()
    handle.unmount()


def test_missing_official_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, family: Family) -> None:
    unet = loaded_pipeline(family).unet
    unet.register_to_config(cross_attention_dim=768)
    with pytest.raises(WeightsError, match="linfusion fetch"):
        linfusion_cli.mount(unet)


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_pipeline_in_bands_makes_the_same_image(family: Family, rows: int) -> None:
    pipeline = loaded_pipeline(family)
    with linfusion_cli.mounted(pipeline, family.linfusion):
        whole = draw(pipeline)
        with linfusion_cli.run_in_bands(pipeline, rows=rows):
            banded = draw(pipeline)
        assert np.abs(banded - whole).max() < 1e-4
        assert np.array_equal(draw(pipeline), whole)


def test_arguments_that_bands_can_not_honour_are_refused_by_name(family: Family) -> None:
    unet = loaded_pipeline(family).unet
    sample, text = torch.zeros(1, 4, 8, 8), torch.zeros(1, 7, 16)
    with pytest.raises(UsageError, match="Nearest: 1"), linfusion_cli.run_in_bands(unet, rows=0):
        pass
    with linfusion_cli.run_in_bands(unet, rows=4):
        with pytest.raises(UsageError, match="attention_mask"):
            unet(sample, 1, text, attention_mask=torch.ones(1, 64))
        with pytest.raises(UsageError, match="scale"):
            unet(sample, 1, text, cross_attention_kwargs={"scale": 0.5})
        with pytest.raises(UsageError, match="no such argument"):
            unet(sample, 1, text, gligen=1)
    assert "forward" not in unet.__dict__


def test_generate_writes_what_stream_yields(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 3, "steps": 3, "device": "cpu"}
    events: list[Event] = []
    made = linfusion_cli.generate(
        "a lake", size="128x192", output=str(tmp_path / "lake.png"), on_event=events.append, **options
    )
    plan = linfusion_cli.plan("a lake", size="128x192", **options)
    rows = np.concatenate(list(linfusion_cli.stream(plan)))
    assert rows.dtype == np.uint8
    assert rows.shape == (192, 128, 3)
    with Image.open(made.path) as image:
        assert np.array_equal(np.asarray(image), rows)
    assert made.record["seed"] == 3
    assert any(isinstance(event, PhaseFinished) for event in events)


def test_plan_tells_memory_and_refuses_by_name() -> None:
    plan = linfusion_cli.plan("a lake", size="512x512", max_memory="2GB", device="cpu")
    assert 0 < plan.peak_bytes <= 2e9
    with pytest.raises(UsageError, match=r'unknown option "step".*steps'):
        linfusion_cli.plan("a lake", step=3)
    with pytest.raises(OutOfMemoryError, match="Nearest"):
        linfusion_cli.plan("a lake", size="512x512", max_memory="10MB")
    with pytest.raises(UsageError, match="a plan is complete"):
        linfusion_cli.generate(plan, size="64x64")
    for several in ({"ranks": 2}, {"devices": "cpu,cpu"}):
        with pytest.raises(UsageError, match=r"(ranks 2|devices cpu,cpu): Python makes an image by one process"):
            linfusion_cli.plan("a lake", **several)


def test_the_host_process_stays_as_it_was(tmp_path: Path) -> None:
    """No environment, no limit of Pillow's, no signal handlers, no change of the garbage collector."""
    code = f"""
import gc, json, os, signal, time
started = time.perf_counter()
import linfusion_cli
import sys
import_seconds, torch_loaded = time.perf_counter() - started, "torch" in sys.modules
import torch
from PIL import Image
def state():
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    collector = [gc.isenabled(), gc.get_freeze_count()]
    return [dict(os.environ), Image.MAX_IMAGE_PIXELS, handlers, collector, torch.get_num_threads()]
Image.new("RGB", (64, 64)).save({str(tmp_path / "a.png")!r})
import diffusers
before = state()
files = dict(init_image={str(tmp_path / "a.png")!r}, output={str(tmp_path / "b.png")!r})
linfusion_cli.generate("a lake", size="128x128", steps=3, device="cpu", **files)
print(json.dumps([torch_loaded, before == state()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, True]


def test_only_the_public_names_are_there() -> None:
    assert set(linfusion_cli.__all__) <= set(dir(linfusion_cli))
    with pytest.raises(AttributeError, match="nothing"):
        _ = linfusion_cli.nothing  # type: ignore[attr-defined]


def test_options_of_another_type_are_refused_and_like_ones_are_taken() -> None:
    for wrong in ({"bits": "8"}, {"steps": 2.5}, {"steps": True}, {"guidance": "7"}, {"preset": 3}, {"loras": (1,)}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            linfusion_cli.plan("a lake", size="64x64", **wrong)
    made = linfusion_cli.plan("a lake", size="64x64", steps=np.int64(9), guidance=4, scratch_folder=".", model=None)
    assert (made.job.settings.sampling.steps, made.job.settings.sampling.guidance_scale) == (9, 4.0)
