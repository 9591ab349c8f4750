"""Self-attention: LinFusion's generalized linear attention, its weight files, and attention in bands."""
