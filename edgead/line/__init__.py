"""A station made from what its file says."""
