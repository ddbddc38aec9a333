"""Rewrites of EfficientAD."""

from __future__ import annotations

from edgead.models.rewrites import Rewrite

REWRITES: tuple[Rewrite, ...] = ()
