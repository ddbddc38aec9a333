"""What the fits of several families need."""
