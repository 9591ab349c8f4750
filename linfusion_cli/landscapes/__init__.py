"""The procedural scenes that the built-in model is trained on, and the recipe that trains it."""
