"""The UNet and the VAE over bands of rows, exactly."""
