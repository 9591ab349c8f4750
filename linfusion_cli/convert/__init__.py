"""Turns pickled weights (.ckpt, .pt, .pth, .bin) into safetensors, in a process that can do nothing else."""
