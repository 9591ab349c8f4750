"""The parts of a model: UNet, VAE, text encoders, prompt encoding, and the cache that keeps them."""
