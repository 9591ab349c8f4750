"""Plans for GPUs of made-up sizes: within their memory, the same for every image of a batch, exact number formats."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import job, machine
from torch_stand_in import StandInTorch

from linfusion_cli.geometry import Size
from linfusion_cli.planning.cost_estimate import LARGEST_ON_APPLE_BYTES, Estimate
from linfusion_cli.planning.model_shapes import family_architecture
from linfusion_cli.planning.number_format import dtype_of
from linfusion_cli.planning.planner import MOST_VALUES, SHARE_OF_DEVICE, Plan, make_plan
from linfusion_cli.planning.unet_cost import largest_whole_values
from linfusion_cli.system import accelerator
from linfusion_cli.system.accelerator import choose

# Those between and above are long: together they plan for minutes.
SIZES_GB = (8, 24, *(pytest.param(gigabytes, marks=pytest.mark.long) for gigabytes in (12, 16, 80, 141)))
JOBS = (("1024x1024", "sdxl-4k"), ("4096x4096", "sdxl-4k"), ("16384x8192", "sdxl-16k"), ("16384x8192", "sd15-16k"))


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", SIZES_GB)
@pytest.mark.parametrize(("size", "preset"), JOBS)
def test_every_card_has_a_plan_that_leaves_a_twentieth_free(gigabytes: int, size: str, preset: str) -> None:
    made = make_plan(job(size, preset), machine("cuda:0", gigabytes, ram_gigabytes=64))
    assert made.peak_bytes <= made.budget_bytes == round(SHARE_OF_DEVICE * gigabytes * 1e9)
    assert made.ram_bytes <= 32e9
    assert made.dtype == "float16"


@pytest.mark.slow
@pytest.mark.parametrize("size", ["16384x8192", pytest.param("16384x16384", marks=pytest.mark.long)])
@pytest.mark.parametrize("gigabytes", [8, *(pytest.param(size, marks=pytest.mark.long) for size in (12, 24, 80))])
@pytest.mark.parametrize("preset", ["sd15-16k", "sdxl-16k"])
def test_the_real_models_fit_into_real_cards(preset: str, gigabytes: int, size: str) -> None:
    """What others need 80 GB for."""
    made = make_plan(job(size, preset), machine("cuda:0", gigabytes, ram_gigabytes=64))
    assert made.peak_bytes <= gigabytes * 1e9
    # of 32 GB of page-locked RAM, which comes in powers of two, the hungriest job leaves too little for its last slab
    hungriest = (preset, gigabytes, size) == ("sdxl-16k", 8, "16384x16384")
    assert made.file_bytes <= (3e9 if hungriest else 0)


def on_a_card(reserved: int, loaded: int, gigabytes: int, size: str, preset: str) -> Plan:
    """The plan as a process makes it that holds `reserved` bytes, and has loaded CUDA's kernels, on a card."""
    torch = StandInTorch(("RTX 4090", 8, 9))
    total = gigabytes * 10**9
    torch.reserved = reserved
    torch.cuda.mem_get_info = lambda index: (total - 300_000_000 - reserved - loaded, total)
    gpu, _ = choose(torch, "cuda")
    assert gpu is not None
    found = replace(machine("cuda:0", 0, ram_gigabytes=64), total_bytes=gpu.total_bytes, free_bytes=gpu.free_bytes)
    return make_plan(job(size, preset), found, keep_text_encoders=True)


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", SIZES_GB)
@pytest.mark.parametrize(("size", "preset"), JOBS[:2])
def test_the_second_image_of_a_batch_is_planned_as_the_first(gigabytes: int, size: str, preset: str) -> None:
    """Its own models and blocks lie on the card then: they are not somebody else's."""
    accelerator._FIRST_FREE_BYTES.clear()
    try:
        first = on_a_card(0, 0, gigabytes, size, preset)
        second = on_a_card(first.peak_bytes, 350_000_000, gigabytes, size, preset)
    finally:
        accelerator._FIRST_FREE_BYTES.clear()
    assert second.stages == first.stages
    assert second.store_budget == first.store_budget
    assert second.weights_resident == first.weights_resident


@pytest.mark.slow
def test_apples_gpus_compute_in_half_precision_and_share_one_memory() -> None:
    mac = machine("mps", 24)
    made = make_plan(job("4096x4096", "sdxl-4k"), mac)
    assert (made.dtype, made.weights_resident, made.ram_bytes) == ("float16", True, 0)
    assert dtype_of(job("1024x1024", "sd21-4k"), replace(mac, bfloat16=False)) == "float32"
    card = make_plan(job("4096x4096", "sdxl-4k"), machine("cuda:0", 24, ram_gigabytes=64), keep_text_encoders=True)
    kept = make_plan(job("4096x4096", "sdxl-4k"), mac, keep_text_encoders=True)
    assert kept.phases[0].peak_bytes > made.phases[0].peak_bytes, "encoders that wait lie in the same memory"
    assert card.phases[0].peak_bytes < kept.phases[0].peak_bytes


@pytest.mark.slow
@given(gigabytes=st.sampled_from((16, 32, 64, 128, 512)))
@settings(deadline=None, max_examples=5)
def test_no_activation_on_an_apple_gpu_is_larger_than_it_addresses(gigabytes: int) -> None:
    made = make_plan(job("16384x8192", "sdxl-16k"), machine("mps", gigabytes))
    budget = made.store_budget
    assert budget.tier_for(LARGEST_ON_APPLE_BYTES + 1, 0, 0) == "file"
    assert made.file_bytes > 0, "this image has activations of 34 GB"
    assert made.peak_bytes <= made.budget_bytes


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", [8, 1000, *(pytest.param(size, marks=pytest.mark.long) for size in (6, 24, 141))])
@pytest.mark.parametrize("preset", ["sd15-16k", "sdxl-16k"])
def test_no_tensor_of_a_convolution_has_two_to_the_31_values(gigabytes: int, preset: str) -> None:
    """Of the autoencoder's bands with their halo, of the UNet's, and of passes over the whole image."""
    made = make_plan(job("16384x8192", preset), machine("cuda:0", gigabytes, ram_gigabytes=200))
    shape = family_architecture(preset[:4])
    for stage in made.stages:
        latent = stage.canvas.latent()
        assert 256 * (stage.bands.vae_px + 2) * stage.canvas.width < MOST_VALUES
        dilation = stage.dilation if stage.dilated_steps else 1
        rows = stage.bands.unet_latent + 2 * dilation if stage.bands.unet_latent else latent.height
        assert largest_whole_values(shape.unet, Size(latent.width, rows), 2) < 2 * MOST_VALUES
        if not stage.bands.unet_latent:
            assert largest_whole_values(shape.unet, latent, 2) < MOST_VALUES


@pytest.mark.slow
def test_stage_0_runs_on_the_whole_image_where_it_fits_and_later_ones_in_bands() -> None:
    made = make_plan(job("16384x8192", "sdxl-16k"), machine("cuda:0", 24, ram_gigabytes=64))
    assert made.stages[0].bands.unet_latent == 0
    assert all(stage.bands.unet_latent for stage in made.stages[1:])


@pytest.mark.slow
def test_streamed_weights_take_time_and_page_locked_ram() -> None:
    """9.55 GB a pass were not counted; of RAM, all weights, in whole arenas."""
    small, large = (
        make_plan(job("4096x4096", "sdxl-4k"), machine("cuda:0", gigabytes, ram_gigabytes=64)) for gigabytes in (6, 24)
    )
    assert (small.weights_resident, large.weights_resident) == (False, True)
    assert min(phase.ram_bytes for phase in small.phases if phase.name == "denoise") > 6.0e9
    estimate = Estimate(small.job, small.machine, family_architecture("sdxl"), "float16", resident=False)
    link = small.machine.speed("float16").link_bytes_per_second
    stage = small.stages[0]
    passes = stage.steps + stage.guided_steps
    first = next(phase for phase in small.phases if phase.name == "denoise")
    assert first.seconds >= 0.999 * passes * estimate.model.streamed / link


@pytest.mark.parametrize(("gigabytes", "stay"), [(8, False), (24, True), (80, True)])
def test_the_unet_stays_on_a_card_with_space_for_the_encoders_beside_it(gigabytes: int, stay: bool) -> None:
    """Over and back it is 6 GB for each image of a batch."""
    card = machine("cuda:0", gigabytes, ram_gigabytes=64)
    many, one = (make_plan(job("1024x1024", "sdxl-4k"), card, keep_text_encoders=keep) for keep in (True, False))
    assert many.components_stay == stay
    assert not one.components_stay
    load = many.phases[0].peak_bytes
    sdxl = family_architecture("sdxl")
    text = sdxl.text_parameters * 2
    assert max(phase.peak_bytes for phase in many.phases) <= many.budget_bytes
    denoising = Estimate(many.job, card, sdxl, many.dtype, resident=many.weights_resident).denoising_bytes
    if stay:
        assert load >= denoising + text - sdxl.vae.parameters * 2  # another autoencoder, in float16
        assert many.ram_bytes == one.ram_bytes == 0
    else:
        waits = 5e9 if many.weights_resident else 0.1e9
        assert many.ram_bytes >= one.ram_bytes + waits


def test_in_one_memory_nothing_leaves() -> None:
    for device in ("cpu", "mps"):
        assert make_plan(job("512x512"), machine(device, 16), keep_text_encoders=True).components_stay
