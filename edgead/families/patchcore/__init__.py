"""PatchCore: the distance of patches to those of good pictures."""
