"""Thresholds and what they promise (NumPy only: the line box chooses them, too)."""
