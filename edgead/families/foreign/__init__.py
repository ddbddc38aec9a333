"""Somebody else's graph, taken as it is."""
