"""DRAEM: a network that rebuilds the picture, and one that compares the two."""
