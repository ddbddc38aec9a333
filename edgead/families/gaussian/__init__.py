"""Gaussians of good features: one for each place of the picture (PaDiM), or one for all."""
