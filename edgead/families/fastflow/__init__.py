"""FastFlow: the likelihood of each place's features by a normalising flow of convolutions."""
