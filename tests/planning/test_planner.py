"""The plan: stages and steps as the recipe says, costs that follow the sizes, refusals with a number."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import job, machine
from PIL import Image
from safetensors.torch import save_file

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import OutOfMemoryError, OutputError, UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.planning import planner
from linfusion_cli.planning.cost_estimate import Estimate
from linfusion_cli.planning.model_shapes import family_architecture
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.upscale_schedule import plan_stages
from linfusion_cli.system.speed import BOUNDS, SLOW_DISK, Speed

pytestmark = pytest.mark.slow  # all of them together

LAPTOP = machine("cpu", 20)
KINDS = ("cpu", "cuda:0", "mps")


def test_stages_follow_the_papers_recipe() -> None:
    """SD-XL, 50 steps, strength 0.32 falling linearly: 16, 12, 8 and 4 steps."""
    made = make_plan(job("16384x8192", "sdxl-16k"), machine("cuda:0", 1000))
    assert [stage.steps for stage in made.stages] == [50, 16, 12, 8, 4]
    assert made.stages[-1].size == Size(16384, 8192)
    assert made.stages[-1].dilated_steps == 0  # its weight is below the cut-off
    assert made.stages[1].dilated_steps > 0
    assert made.dtype == "float16"


def test_guidance_acts_in_its_interval_only() -> None:
    made = make_plan(job("1024x1024"), LAPTOP)
    assert made.stages[0].guided_steps == 15  # of 20, down to t = 0.3 T
    assert [stage.guided_steps for stage in made.stages[1:]] == [3, 0, 0]  # from 0.4 T, 0.27 T, 0.13 T


def test_no_guidance_means_no_guided_steps() -> None:
    assert make_plan(job("512x512", guidance=1.0), LAPTOP).stages[0].guided_steps == 0


def test_phases_of_a_pixel_upscale_and_of_a_latent_one() -> None:
    names = [(phase.name, phase.stage) for phase in make_plan(job("256x256"), LAPTOP).phases]
    assert names == [("load", 0), ("denoise", 0), ("decode", 0), ("encode", 1), ("denoise", 1), ("decode", 1)]


def test_memory_and_time_grow_with_the_image() -> None:
    plans = [make_plan(job(size), LAPTOP) for size in ("512x512", "2048x2048", "8192x8192")]
    assert plans[0].peak_bytes < plans[1].peak_bytes < plans[2].peak_bytes
    assert plans[0].seconds < plans[1].seconds < plans[2].seconds


def test_what_can_not_fit_is_refused_with_the_smallest_budget_that_would() -> None:
    small = machine("cpu", 1)
    with pytest.raises(OutOfMemoryError, match=r"131072x65536 needs about .* GB.*cpu has 1\.0 GB free") as refused:
        make_plan(job("131072x65536"), small)
    fitting = re.search(r"\((\d+x\d+) fits\)", str(refused.value))
    assert fitting
    assert make_plan(job(fitting[1]), small).peak_bytes <= small.free_bytes
    with pytest.raises(OutOfMemoryError, match=r"max_memory allows 0\.5 GB") as refused:
        make_plan(job("4096x4096", max_memory="500MB"), LAPTOP)
    nearest = re.search(r'Nearest: max_memory="([^"]+)",', str(refused.value))
    assert nearest
    made = make_plan(job("4096x4096", max_memory=nearest[1]), LAPTOP)
    assert made.peak_bytes <= made.budget_bytes


def test_a_budget_that_no_size_keeps_says_so() -> None:
    with pytest.raises(OutOfMemoryError, match="no size fits"):
        make_plan(job("4096x4096", max_memory="100MB"), LAPTOP)


def test_a_narrower_number_format_is_named_where_it_would_do() -> None:
    asked = replace(job("4096x4096", "sdxl-4k"), max_memory_bytes=10**10)
    with pytest.raises(OutOfMemoryError, match=r"in float32.* dtype=.bfloat16. \(about 6\.\d GB\), or a smaller"):
        make_plan(asked, LAPTOP)
    make_plan(replace(asked, dtype="bfloat16"), LAPTOP)
    with pytest.raises(OutOfMemoryError, match=r"^(?!.*dtype=)"):
        make_plan(replace(asked, max_memory_bytes=5 * 10**9), LAPTOP)


def test_what_the_disk_can_not_hold_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "free_bytes", lambda folder: 1000)
    with pytest.raises(OutputError, match=r"16384x8192 in 1\.0 GB of memory .*files.*scratch, or more max_memory"):
        make_plan(job("16384x8192", max_memory="1GB"), LAPTOP)


def test_where_the_disk_is_small_more_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job("16384x8192", max_memory="2GB")
    monkeypatch.setattr(planner, "free_bytes", lambda folder: 10**12)
    roomy = make_plan(asked, LAPTOP)
    monkeypatch.setattr(planner, "free_bytes", lambda folder: roomy.file_bytes * 2 // 3)
    small = make_plan(asked, LAPTOP)
    assert small.file_bytes <= roomy.file_bytes * 2 // 3
    assert sum(phase.macs for phase in small.phases) > 1.1 * sum(phase.macs for phase in roomy.phases)
    assert small.peak_bytes <= 2 * 10**9


@given(gigabytes=st.floats(0.6, 20), width=st.integers(1, 256), height=st.integers(1, 256))
@settings(deadline=None, max_examples=30)
def test_no_plan_is_over_its_budget(gigabytes: float, width: int, height: int) -> None:
    asked = job(f"{width * 64}x{height * 64}")
    try:
        made = make_plan(asked, machine("cpu", gigabytes))
    except OutOfMemoryError:
        return
    assert made.peak_bytes <= made.budget_bytes == int(gigabytes * 1e9)


def test_a_tight_budget_puts_less_in_memory_and_takes_longer() -> None:
    wide, tight = make_plan(job("8192x8192"), LAPTOP), make_plan(job("8192x8192", max_memory="1GB"), LAPTOP)
    assert tight.peak_bytes <= 10**9 < wide.peak_bytes
    assert tight.file_bytes > wide.file_bytes == 0
    assert tight.seconds > wide.seconds


def test_softmax_attention_needs_more_and_takes_longer() -> None:
    linear, softmax = make_plan(job("2048x2048"), LAPTOP), make_plan(job("2048x2048", attention="softmax"), LAPTOP)
    denoising = [
        max(phase.peak_bytes for phase in planner.phases if phase.name == "denoise") for planner in (linear, softmax)
    ]
    assert denoising[0] < denoising[1]
    assert softmax.seconds > linear.seconds


def test_controlnets_are_counted(tmp_path: Path) -> None:
    """Their weights, their images, and what they add to every skip; twice the ControlNets, twice as much."""
    Image.new("RGB", (64, 64)).save(tmp_path / "edges.png")
    plain = job("4096x4096", "sd15-16k")
    image = inspect_image(tmp_path / "edges.png", "control_images")
    peaks, seconds = [], []
    for controlnets in range(3):
        made = make_plan(replace(plain, control_images=(image,) * controlnets), machine("cuda:0", 80, ram_gigabytes=64))
        peaks.append(max(phase.peak_bytes for phase in made.phases if phase.name == "denoise"))
        seconds.append(sum(phase.seconds for phase in made.phases if phase.name == "denoise"))
    weights = 2 * family_architecture("sd15").unet.controlnet_parameters
    assert peaks[1] - peaks[0] > weights
    assert peaks[2] - peaks[1] > weights
    assert seconds[0] < seconds[1] < seconds[2]


def test_the_users_images_count(tmp_path: Path) -> None:
    """A photo of 48 megapixels is larger than all that a small image needs."""
    Image.new("L", (8000, 6000)).save(tmp_path / "photo.png")
    photo = inspect_image(tmp_path / "photo.png", "init_image")
    plain, started = job("512x512"), job("512x512", init_image=tmp_path / "photo.png")
    peaks = {}
    for name, asked in (
        ("plain", plain),
        ("start", started),
        ("control", replace(plain, control_images=(photo,))),
        ("prompt", replace(plain, ip_images=(photo,))),
    ):
        peaks[name] = make_plan(asked, LAPTOP).peak_bytes
    assert photo.held_bytes == 3 * 48_000_000
    assert min(peaks["start"], peaks["prompt"]) > peaks["plain"] + photo.held_bytes
    assert peaks["control"] > max(peaks["start"], peaks["prompt"])  # its ControlNet too
    with pytest.raises(OutOfMemoryError, match=r"max_memory allows 0\.8 GB"):
        make_plan(job("512x512", init_image=tmp_path / "photo.png", max_memory="800MB"), LAPTOP)


def test_a_start_that_loses_its_detail_is_told(tmp_path: Path) -> None:
    for side, told in ((400, True), (128, False)):
        Image.new("L", (side, side)).save(tmp_path / "photo.png")
        notes = make_plan(job("512x512", init_image=tmp_path / "photo.png"), LAPTOP).notes
        assert any("The command upscale keeps it" in note for note in notes) is told


def test_a_clip_skip_of_1_is_told_to_leave_out_nothing() -> None:
    for layer, told in ((1, True), (2, False), (None, False)):
        notes = make_plan(job("512x512", clip_skip=layer), LAPTOP).notes
        assert any("leaves out no layer" in note for note in notes) is told


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [("lake", {}, True), ("{seed}", {}, True), ("lake.jpg", {}, False), ("lake", {"format": "jpeg"}, False)],
)
def test_a_name_without_an_ending_is_told(tmp_path: Path, name: str, options: dict[str, Any], told: bool) -> None:
    request = Request(prompt="a lake", size="512x512", output=tmp_path / name, **options)
    made = make_plan(resolve(request), LAPTOP)
    assert any(f"the image is {made.job.output.name}" in note for note in made.notes) is told
    in_a_folder = make_plan(resolve(replace(request, output=tmp_path)), LAPTOP)
    assert not any("no ending" in note for note in in_a_folder.notes)


def test_an_image_can_not_be_upscaled_to_what_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (600, 400)).save(tmp_path / "photo.png")
    for size in ("600x400", "256x256"):
        with pytest.raises(
            UsageError, match=rf"size {size}: upscale_image has 600x400 already.* Nearest: size=.1200x800"
        ):
            job(size, upscale_image=tmp_path / "photo.png")
    assert [
        str(stage.size) for stage in make_plan(job("608x408", upscale_image=tmp_path / "photo.png"), LAPTOP).stages
    ] == ["600x400", "608x408"]
    Image.new("RGB", (100, 100)).save(tmp_path / "small.png")
    with pytest.raises(UsageError, match="less than one step"):  # it grows, although both are sizes of the model's own
        job("128x128", upscale_image=tmp_path / "small.png", upscale_strength=0.0)


def test_the_autoencoders_own_number_format_counts() -> None:
    """That of the built-in model stays in float32: its phases need as much, the UNet's less."""
    exact, half = make_plan(job("2048x2048"), LAPTOP), make_plan(job("2048x2048", dtype="float16"), LAPTOP)
    for one, other in zip(exact.phases, half.phases, strict=True):
        if one.name == "denoise":
            assert other.peak_bytes < one.peak_bytes
        elif one.name != "load":
            assert abs(other.peak_bytes - one.peak_bytes) < 30e6
    fixed = make_plan(
        job("4096x4096", "sdxl-4k"), machine("cuda:0", 80)
    )  # float16, with the autoencoder that is made for it
    upcast = make_plan(
        replace(job("4096x4096", "sdxl-4k"), settings=without_own_autoencoder("sdxl-4k")), machine("cuda:0", 80)
    )
    decodes = [planner.phases[-1].peak_bytes for planner in (fixed, upcast)]
    assert decodes[1] > 1.1 * decodes[0]


def without_own_autoencoder(preset: str) -> Preset:
    settings = job("4096x4096", preset).settings
    return settings.model_copy(update={"model": settings.model.model_copy(update={"vae_float16": ""})})


def test_what_reads_prompts_counts_while_it_reads_or_when_it_stays_for_the_next_image() -> None:
    once, often = (make_plan(job("512x512", "sd15-4k"), LAPTOP, keep_text_encoders=stay) for stay in (False, True))
    text_encoders = family_architecture("sd15").text_parameters * 4
    assert [more.peak_bytes - less.peak_bytes for less, more in zip(once.phases, often.phases, strict=True)] == [
        text_encoders
    ] * 3


def test_what_reads_and_what_draws_are_not_loaded_together() -> None:
    """The UNet of SD-XL is larger than its text encoders; a text encoder that were larger would be what counts."""
    loading = make_plan(job("1024x1024", "sdxl-4k"), LAPTOP).phases[0].peak_bytes
    shape = family_architecture("sdxl")
    assert loading == 500e6 + 4 * (shape.unet.parameters + shape.unet.linear_parameters + shape.vae.parameters)
    large = replace(shape, text_parameters=5_000_000_000)
    estimate = Estimate(job("1024x1024", "sdxl-4k"), LAPTOP, large, "float32")
    assert estimate.encoding_bytes == 500e6 + 4 * large.text_parameters > estimate.denoising_bytes


def test_loras_and_an_ip_adapter_count(tmp_path: Path) -> None:
    """Their weights, and the encoder of images that comes with the second."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = (torch.zeros(shape, dtype=torch.float16) for shape in ((1, 12_500_000), (12_500_000, 1)))
    save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, tmp_path / "lora.safetensors")
    sizes = {"proj.weight": 24_999_997, "proj.bias": 1, "norm.weight": 1, "norm.bias": 1}
    projection = {f"image_proj.{name}": torch.zeros(size, dtype=torch.float16) for name, size in sizes.items()}
    save_file(projection, tmp_path / "ip-adapter.safetensors")
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "config.json").write_text("{}")
    save_file({"a": torch.zeros(50_000_000, dtype=torch.float16)}, tmp_path / "image_encoder" / "model.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "style.png")
    plain = make_plan(job("512x512", "sd15-4k"), LAPTOP).peak_bytes
    with_lora = make_plan(job("512x512", "sd15-4k", loras=(str(tmp_path / "lora.safetensors"),)), LAPTOP).peak_bytes
    adapter = {"ip_adapter": str(tmp_path / "ip-adapter.safetensors"), "ip_images": (tmp_path / "style.png",)}
    with_adapter = make_plan(job("512x512", "sd15-4k", **adapter), LAPTOP).peak_bytes
    loaded, loaded_plain = (
        make_plan(job("512x512", "sd15-4k", **more), LAPTOP).phases[0].peak_bytes for more in (adapter, {})
    )
    assert with_lora - plain == 25_000_000 * (4 + 2)  # mounted in float32, and as it was read
    assert with_adapter - plain == 25_000_000 * 4
    assert (
        loaded - loaded_plain == 25_000_000 * 4
    )  # the encoder of images is smaller than the UNet, and gone when that comes
    staying, staying_plain = (
        make_plan(job("512x512", "sd15-4k", **more), LAPTOP, keep_text_encoders=True).phases[0].peak_bytes
        for more in (adapter, {})
    )
    assert staying - staying_plain >= 75_000_000 * 4


def test_loading_takes_the_start_and_the_weights() -> None:
    """SD-XL's fifteen thousand million bytes in float32 take seconds beside the start, the built-in model's none."""
    quick = replace(LAPTOP, speeds={"float32": replace(LAPTOP.speed("float32"), start_seconds=2.0)})
    small, large = (make_plan(job("1024x1024", preset), quick).phases[0].seconds for preset in ("landscape", "sdxl-4k"))
    assert 2 <= small < 2.1
    assert 15 < large < 20


def test_the_image_between_two_stages_counts_in_full() -> None:
    """Even steps may grow by less than 2: a quarter of the larger image is not enough."""
    asked = job("6144x6144")
    stages = make_plan(asked, LAPTOP).stages
    estimate = Estimate(asked, LAPTOP, family_architecture("sd15"), "float32", resident=True, disk_bytes=10**12)
    in_files = {
        stage.index: max(phase.file_bytes for phase in estimate.vae_phases(stage, estimate.budget(0, 0), last=False)[0])
        for stage in stages[1:]
    }
    for stage in stages[1:]:
        empty = replace(stage, before=Size(0, 0))
        without = estimate.vae_phases(empty, estimate.budget(0, 0), last=False)[0][0].file_bytes
        assert (
            in_files[stage.index] - without == 3 * 4 * stages[stage.index - 1].size.area > 3 * 4 * stage.size.area / 4
        )


def test_a_unet_that_cannot_run_in_bands_runs_whole_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = family_architecture("sd15")
    strange = replace(known, unet=replace(known.unet, bandable=False))
    monkeypatch.setattr(planner, "_architecture", lambda _, _weights: strange)
    made = make_plan(job("2048x2048", "sd15-4k"), machine("cuda:0", 80, ram_gigabytes=64))
    assert [stage.bands.unet_latent for stage in made.stages] == [0] * len(made.stages)
    assert any("can't run in bands" in note for note in made.notes)
    with pytest.raises(OutOfMemoryError, match=r"needs about [\d.]+ GB"):
        make_plan(job("16384x16384", "sd15-16k"), machine("cuda:0", 8, ram_gigabytes=64))


def test_small_stages_on_a_cpu_run_whole_where_they_fit() -> None:
    """What would be a single band there; lower bands where the memory is tight."""
    made = make_plan(job("4096x4096"), LAPTOP)
    whole = [stage.canvas.latent().area <= 8192 for stage in made.stages]
    assert whole == [True, True, True, False, False, False]
    assert [stage.bands.unet_latent == 0 for stage in made.stages] == whole
    assert all(stage.bands.unet_latent for stage in plan_stages(made.job, "cpu", halvings=7))


def test_the_plan_speaks_json() -> None:
    import json

    told = json.loads(json.dumps(make_plan(job("1024x512"), LAPTOP).as_dict()))
    assert told["size"] == "1024x512"
    assert told["stages"][0]["size"] == "184x88"


RATES = {name: st.floats(math.log(low), math.log(high)) for name, (low, high) in BOUNDS.items()}


@settings(deadline=None, max_examples=10)
@given(rates=st.fixed_dictionaries(RATES), gigabytes=st.sampled_from([1.0, 1.2, 2, 8]), device=st.sampled_from(KINDS))
def test_no_measurement_decides_bands_and_memory(rates: dict[str, float], gigabytes: float, device: str) -> None:
    """Any rates within their bounds, as noise makes them: the same plan, with other times; only a slow disk counts."""
    usual = Speed.assumed(device.partition(":")[0], 2)
    noisy = replace(usual, **{name: math.exp(value) for name, value in rates.items()}, measured=True)
    wanted, place = job("2048x2048", device="cpu"), machine(device, gigabytes, 64)
    plain = make_plan(wanted, place)
    made = make_plan(wanted, replace(place, speeds={plain.dtype: noisy}))
    assert (made.machine.speed(made.dtype), made.dtype) == (noisy, plain.dtype)
    if noisy.file_bytes_per_second >= usual.file_bytes_per_second / SLOW_DISK:
        assert (made.stages, made.store_budget) == (plain.stages, plain.store_budget)
        assert (made.peak_bytes, made.file_bytes) == (plain.peak_bytes, plain.file_bytes)
    else:
        assert made.file_bytes <= plain.file_bytes
    fast = replace(noisy, macs_per_second=noisy.macs_per_second * 4)
    faster = make_plan(wanted, replace(place, speeds={plain.dtype: fast}))
    assert faster.stages == made.stages
    assert faster.seconds < made.seconds
