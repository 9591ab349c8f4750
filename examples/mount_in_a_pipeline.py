"""Linear attention in a diffusers pipeline: same weights, same call, time that grows with the pixels alone.

python examples/mount_in_a_pipeline.py MODEL LINFUSION "a mountain lake" lake.png

MODEL: a Stable Diffusion 1.x or 2.x folder in diffusers layout. LINFUSION: the folder of its LinFusion weights.
"""

import sys

import torch
from diffusers import StableDiffusionPipeline

import linfusion_cli


def main(model: str, linfusion: str, prompt: str, output: str, size_px: int = 512) -> None:
    """Draws one image with the linear attention mounted; after the `with` block the pipeline is the plain one again."""
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    with linfusion_cli.mounted(pipeline, linfusion), linfusion_cli.run_in_bands(pipeline, rows=32):
        generator = torch.Generator().manual_seed(7)
        image = pipeline(prompt, height=size_px, width=size_px, num_inference_steps=20, generator=generator).images[0]
    image.save(output)


if __name__ == "__main__":
    main(*sys.argv[1:5])
