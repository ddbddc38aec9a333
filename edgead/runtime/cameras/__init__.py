"""Camera adapters, one file each."""
