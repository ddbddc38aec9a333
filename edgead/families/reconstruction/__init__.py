"""Reconstruction: what a network that only knows good pictures cannot rebuild."""
