"""Only a process of our own is changed."""

import subprocess
import sys

import pytest

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
