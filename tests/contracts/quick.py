"""Options that make a training short, by method; one that is not here takes its own. A line each, so that nobody's gets lost."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, dict[str, Any]] = {
    "patchcore": {"coreset": 60},
    "simplenet": {"steps": 20, "layers": ("blocks.4", "blocks.10")},
    "efficientad": {"ae_steps": 2, "patches": 300},
    "differnet": {"steps": 20, "blocks": 2, "hidden": 32},
    "fastflow": {"steps": 10, "flow_steps": 2, "batch": 4},
}
