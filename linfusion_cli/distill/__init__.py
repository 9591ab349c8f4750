"""Teaches linear attention to do what a checkpoint's own self-attention does (LinFusion, arXiv 2409.02097, section 3.4)."""
