"""What is put around a network: its input resized or prepared, tiles, a coarse look first."""
