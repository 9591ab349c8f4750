"""Measures images where the truth is known: on the procedural scenes, at any size."""
