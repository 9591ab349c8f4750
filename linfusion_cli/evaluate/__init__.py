"""Measures generated images on the procedural scenes, whose content is known, at any size; and FID of folders."""
