"""Fit a model from a folder of good images (torch)."""
