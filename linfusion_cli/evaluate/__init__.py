"""Measures pictures where the truth is known: on the procedural scenes, at any size."""
