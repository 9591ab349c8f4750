"""Numpy rows in, files out: atomic files, the PNG writer and the record inside each image."""
