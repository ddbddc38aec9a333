"""What is usual in training on frozen patch features; here, and not beside its use, so that options need no torch."""

TRAINED = "own_cell"
"""The kind of patch features (:data:`edgead.models.patches.FEATURES`) that a PatchCore is trained with."""

QUIET = "quiet_border"
"""That a SimpleNet is trained with: the other one is not shown to gain anything there
(docs/decisions/0033-what-was-tried.md)."""

MAX_ROWS = 400_000
"""More patches than these are subsampled at random, the same number from each image. 400,000 rows of EfficientNet-Lite0 (152
channels) are 243 MB."""

SCORES = ("max", "mean", "top")
"""How a map becomes a score (:func:`edgead.models.parts.scores.reduced`)."""
