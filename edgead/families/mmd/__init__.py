"""MMD witness: how dense good patches lie around each patch, and how far a picture's patches are from them as a whole."""
