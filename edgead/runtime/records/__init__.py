"""What is kept of each part."""

MAX_ROWS = 5_000_000
"""Records that are kept, unless the settings say another number."""
