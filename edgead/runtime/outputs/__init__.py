"""Output adapters, one file each."""
