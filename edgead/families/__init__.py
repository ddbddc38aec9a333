"""The model families, each with a room of its own."""
