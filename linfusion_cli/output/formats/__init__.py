"""Writers of image files, one module for each kind, and readers of what they store beside the pixels."""
