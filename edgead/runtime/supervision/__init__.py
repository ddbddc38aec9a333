"""Who notices that something stands still, and tells."""
