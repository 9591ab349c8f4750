"""Image files that users bring: what they are, whether they are whole, their samples and colours. No torch."""
