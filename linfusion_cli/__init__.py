"""Very large images with Stable Diffusion and linear attention (LinFusion, arXiv 2409.02097)."""

__version__ = "0.1.0"
