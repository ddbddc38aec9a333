"""Rewrites of PatchCore and SimpleNet."""

from __future__ import annotations

from edgead.models.rewrites import Rewrite

REWRITES: tuple[Rewrite, ...] = ()
