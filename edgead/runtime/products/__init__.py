"""Change of product, and whether the pictures are still those of training."""
