"""What is usual in training on frozen patch features; here, and not beside its use, so that options need no torch."""

TRAINED = "quiet_border"
"""The kind of patch features (:data:`edgead.models.patches.FEATURES`) that training takes."""

MAX_ROWS = 400_000
"""More patches than these are subsampled at random, the same number from each image. 400,000 rows of EfficientNet-Lite0 (152
channels) are 243 MB."""
