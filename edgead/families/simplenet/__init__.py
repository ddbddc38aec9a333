"""SimpleNet: a small classifier that tells features from noisy ones."""
