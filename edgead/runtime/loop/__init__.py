"""From a picture to exactly one verdict for each part."""
