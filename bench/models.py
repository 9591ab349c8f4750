"""Plans of SD-v1.5 and SD-XL at full size against measured peaks, and a batch of 20; random weights (8 GB of disk).

    python bench/models.py [--only plans|batch|sdxl]

Three steps of SD-v1.5 and one of SD-XL in bfloat16 with linear attention, prompt to PNG. The images are noise; memory
and time are those of real weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from batch import made_seconds, whole
from loading import make_checkpoint

from bench import budgets

IMAGES = 20
CASES = [("512x512", "8GB"), ("512x512", "4GB"), ("1024x512", "3.5GB"), ("1024x1024", "4GB")]
CASES_XL = [("256x256", "8GB"), ("512x512", "8GB")]
PRESET = """
extends = "{family}-4k"
[model]
repositories = ["{model}"]
linfusion = ["{linfusion}"]
dtype_cpu = "bfloat16"
[sampling]
scheduler = "ddim"
steps = {steps}
"""


def make_linfusion(model: Path, folder: Path, mid_dim_scale: int) -> None:
    """Linear attentions that start as the model's own projections, as `linfusion distill` begins."""
    import torch
    from diffusers import UNet2DConditionModel

    from linfusion_cli.engine.attention.linfusion import LinFusion

    linfusion = LinFusion.like(UNet2DConditionModel.from_pretrained(model / "unet", dtype=torch.float16), mid_dim_scale)
    linfusion.attentions.half()
    linfusion.save(folder)


def make_preset(folder: Path, family: str, steps: int, mid_dim_scale: int) -> Path:
    """A preset of the family with random weights beside it."""
    model, linfusion, preset = folder / family, folder / f"{family}-linfusion", folder / f"{family}.toml"
    make_checkpoint(model, family)
    make_linfusion(model, linfusion, mid_dim_scale)
    preset.write_text(PRESET.format(family=family, model=model, linfusion=linfusion, steps=steps))
    return preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["plans", "batch", "sdxl"])
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="linfusion-bench-") as name:
        folder = Path(name)
        if only != "sdxl":
            preset = str(make_preset(folder, "sd15", steps=3, mid_dim_scale=1))
            if only != "batch":
                budgets(CASES, "--preset", preset)
            if only != "plans":
                whole(
                    f"a batch of {IMAGES} at 512x512, SD-v1.5",
                    *made_seconds(folder, IMAGES, "512x512", "--preset", preset),
                )
        if only in (None, "sdxl"):
            budgets(CASES_XL, "--preset", str(make_preset(folder, "sdxl", steps=1, mid_dim_scale=16)))


if __name__ == "__main__":
    main()
