"""What is kept of each part."""
