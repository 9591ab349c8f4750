"""An image as rows of pixels, without a file: here into one numpy array, or into whatever takes rows.

python examples/stream_to_an_array.py "a mountain lake at dawn" 512x384
"""

import sys

import numpy as np

import linfusion_cli


def main(prompt: str, size: str) -> np.ndarray:
    """Plans, tells what the plan needs, and gathers the rows: uint8 (height, width, 3)."""
    plan = linfusion_cli.plan(prompt, size=size, seed=7)
    print(f"about {plan.seconds:.0f} s, at most {plan.peak_bytes / 1e9:.1f} GB")
    return np.concatenate(list(linfusion_cli.stream(plan)))


if __name__ == "__main__":
    pixels = main(*sys.argv[1:3])
    print(pixels.shape, pixels.dtype)
