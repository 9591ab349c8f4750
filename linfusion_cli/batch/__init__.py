"""Many images from lists of prompts, made once each, whatever happens on the way."""
