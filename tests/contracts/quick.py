"""Options that make a training short, by method; one that is not here takes its own. A line each, so that nobody's gets lost."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, dict[str, Any]] = {
    "patchcore": {"coreset": 60},
    "simplenet": {"steps": 20, "layers": ("blocks.4", "blocks.10")},
    "efficientad": {"ae_steps": 2, "patches": 300},
    "reconstruction": {"steps": 10, "base": 8},
    "ae": {"steps": 10, "base": 8},
    "ae_ssim": {"steps": 10, "base": 8},
    "vae": {"steps": 10, "base": 8},
    "memae": {"steps": 10, "base": 8},
    "riad": {"steps": 5, "base": 8, "batch": 2},
}
