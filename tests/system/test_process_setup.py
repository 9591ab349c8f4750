"""Only a process of our own is changed."""

import subprocess
import sys

import pytest

from linfusion_cli.system import process_setup

CODE = """
import gc, os
from linfusion_cli.system import process_setup
{own}
with process_setup.importing(7):
    pass
process_setup.lift_pixel_limit()
process_setup.set_heap(1 << 20, 1 << 20)
from PIL import Image
print(os.environ.get("LRU_CACHE_CAPACITY"), Image.MAX_IMAGE_PIXELS is None, gc.get_freeze_count() > 0)
"""


@pytest.mark.parametrize(
    ("own", "expected"), [("", "None False False"), ("process_setup.own_process()", "7 True True")]
)
def test_a_host_process_keeps_its_settings(own: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(own=own)], capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("platform", "given", "expected"), [("darwin", "", "1"), ("darwin", "0", "0"), ("linux", "", "")]
)
def test_what_apples_gpus_lack_runs_on_the_cpu(
    platform: str, given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"PYTORCH_ENABLE_MPS_FALLBACK": given} if given else {}
    monkeypatch.setattr(process_setup.os, "environ", environment)
    monkeypatch.setattr(process_setup.sys, "platform", platform)
    monkeypatch.setitem(process_setup._STATE, "owned", True)
    monkeypatch.setitem(process_setup._STATE, "prepared", None)
    process_setup.quiet_libraries()
    assert environment.get("PYTORCH_ENABLE_MPS_FALLBACK", "") == expected
