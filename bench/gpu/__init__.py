"""One command that proves and measures this program on a GPU in ten minutes: `make gpu`, docs/gpu.md."""
