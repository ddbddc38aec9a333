"""DifferNet: the likelihood of a whole picture's features by a normalising flow."""
