"""SD-v1.5 at full size: plans against the operating system's peaks, and a batch of 20; random weights, made on the fly (2.2 GB on the disk).

    python bench/models.py [--only plans|batch]

Three steps in bfloat16 with linear attention, prompt to PNG. The pictures are noise, memory and time are not.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from batch import made_seconds, whole
from loading import make_checkpoint

from bench import budgets

PICTURES = 20
CASES = [("512x512", "8GB"), ("512x512", "4GB"), ("1024x512", "3.5GB"), ("1024x1024", "4GB")]
PRESET = """
extends = "sd15-4k"
[model]
repositories = ["{model}"]
linfusion = ["{linfusion}"]
dtype_cpu = "bfloat16"
[sampling]
scheduler = "ddim"
steps = 3
"""


def make_linfusion(model: Path, folder: Path) -> None:
    """Linear attentions that start as the model's own projections, as `linfusion distill` begins."""
    import torch
    from diffusers import UNet2DConditionModel

    from linfusion_cli.engine.adapter import LinFusion

    linfusion = LinFusion.like(UNet2DConditionModel.from_pretrained(model / "unet", dtype=torch.float16))
    linfusion.attentions.half()
    linfusion.save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["plans", "batch"])
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="linfusion-bench-") as name:
        folder = Path(name)
        make_checkpoint(folder / "model")
        make_linfusion(folder / "model", folder / "linfusion")
        (folder / "sd15.toml").write_text(PRESET.format(model=folder / "model", linfusion=folder / "linfusion"))
        if only != "batch":
            budgets(CASES, "--preset", str(folder / "sd15.toml"))
        if only != "plans":
            whole(f"a batch of {PICTURES} at 512x512, SD-v1.5", *made_seconds(folder, PICTURES, "512x512", "--preset", str(folder / "sd15.toml")))


if __name__ == "__main__":
    main()
