"""The number format that is asked for, the preset's, or one that the device computes in, which is told."""

from dataclasses import replace

import pytest
from made_up import job, machine

from linfusion_cli.errors import OutOfMemoryError, UsageError
from linfusion_cli.planning.planner import make_plan


@pytest.mark.slow
def test_a_card_without_bfloat16_computes_in_float32_or_as_asked() -> None:
    old = replace(machine("cuda:0", 24, ram_gigabytes=64), bfloat16=False, device_name="RTX 2080")
    plain = job("1024x1024", "sd21-4k")
    made = make_plan(plain, old)
    assert made.dtype == "float32"
    assert any("RTX 2080 does not compute in bfloat16" in note for note in made.notes)
    assert make_plan(plain, machine("cuda:0", 24)).dtype == "bfloat16"
    with pytest.raises(UsageError, match=r'dtype bfloat16: RTX 2080 does not .*Nearest: dtype="float32"'):
        make_plan(job("1024x1024", "sd21-4k", dtype="bfloat16"), old)
    nearest = job("1024x1024", "sd21-4k", dtype="float32")
    assert make_plan(nearest, old).dtype == "float32"
    small = replace(old, total_bytes=2 * 10**9, free_bytes=2 * 10**9)
    with pytest.raises(OutOfMemoryError) as refused:
        make_plan(job("8192x8192", "sd21-4k", dtype="float32"), small)
    assert "bfloat16" not in str(refused.value)
