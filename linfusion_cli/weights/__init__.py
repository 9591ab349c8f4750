"""Weights on this machine and on the hub: where they are, what they are, whether they are whole. No torch."""
