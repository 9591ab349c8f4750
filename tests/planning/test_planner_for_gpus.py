"""Plans for GPUs of made-up sizes: within their memory, the same for every image of a batch, exact number formats."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import job, machine
from torch_stand_in import StandInTorch

from linfusion_cli.planning.cost_estimate import LARGEST_ON_APPLE_BYTES
from linfusion_cli.planning.number_format import dtype_of
from linfusion_cli.planning.planner import SHARE_OF_DEVICE, Plan, make_plan
from linfusion_cli.system import accelerator
from linfusion_cli.system.accelerator import choose

SIZES_GB = (8, 12, 16, 24, 80, 141)
JOBS = (("1024x1024", "sdxl-4k"), ("4096x4096", "sdxl-4k"), ("16384x8192", "sdxl-16k"), ("16384x8192", "sd15-16k"))


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", SIZES_GB)
@pytest.mark.parametrize(("size", "preset"), JOBS)
def test_every_card_has_a_plan_that_leaves_a_twentieth_free(gigabytes: int, size: str, preset: str) -> None:
    made = make_plan(job(size, preset), machine("cuda:0", gigabytes, ram_gigabytes=64))
    assert made.peak_bytes <= made.budget_bytes == round(SHARE_OF_DEVICE * gigabytes * 1e9)
    assert made.ram_bytes <= 32e9
    assert made.dtype == "float16"


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
