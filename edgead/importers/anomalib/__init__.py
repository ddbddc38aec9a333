"""Checkpoints of anomalib."""
