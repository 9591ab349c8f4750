"""Denoising: the denoiser, the schedulers, the progressive upscale, the noise and the checkpoints of latents."""
