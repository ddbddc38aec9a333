"""Patch SVDD: an encoder of patches that learned on the good pictures alone where patches lie to each other."""
