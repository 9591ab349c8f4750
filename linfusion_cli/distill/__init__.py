"""Distils a checkpoint's self-attention into linear attention (LinFusion, arXiv 2409.02097)."""
