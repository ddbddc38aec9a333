"""Options that make a training short, by method; one that is not here takes its own. A line each, so that nobody's gets lost."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, dict[str, Any]] = {
    "patchcore": {"coreset": 60},
    "simplenet": {"steps": 20, "layers": ("blocks.4", "blocks.10")},
    "efficientad": {"ae_steps": 2, "patches": 300},
    "mmd": {"rows": 60},
    "differnet": {"steps": 20, "blocks": 2, "hidden": 32},
    "fastflow": {"steps": 10, "flow_steps": 2, "batch": 4},
    "reconstruction": {"steps": 10, "base": 8},
    "ae": {"steps": 10, "base": 8},
    "ae_ssim": {"steps": 10, "base": 8},
    "vae": {"steps": 10, "base": 8},
    "wae_mmd": {"steps": 10, "base": 8, "vector": 8},
    "memae": {"steps": 10, "base": 8},
    "scadn": {"steps": 4, "batch": 2, "blocks": 1},
    "smai": {"steps": 4, "base": 8, "batch": 2},
    "partial": {"steps": 4, "base": 8, "batch": 2},
    "projection": {"steps": 4, "base": 8, "moves": 3},
    "intra": {"steps": 3, "base": 32, "blocks": 2, "batch": 2},
    "pnet": {"steps": 4, "base": 8},
    "puzzle": {"steps": 4, "base": 8, "batch": 2},
    "memgan": {"steps": 10, "base": 8},
    "mnad": {"steps": 10, "base": 8},
    "riad": {"steps": 5, "base": 8, "batch": 2},
    "students": {"kind": "thin", "steps": 3, "students": 2, "channels": 16},
    "uninformed_students": {"patches": 300, "channels": 24},
    "distillation": {"steps": 3, "batch": 2, "rebuilder": "twin", "layers": ("blocks.0", "blocks.2")},
    "stfpm": {"steps": 5, "batch": 2, "width": 8, "layers": ("blocks.2", "blocks.4")},
    "reverse_distillation": {"steps": 5, "batch": 2, "width": 16, "layers": ("blocks.2", "blocks.4")},
    "oneclass": {"steps": 3, "batch": 2, "width": 8, "pool": 6},
    "fcdd": {"steps": 3, "batch": 2, "width": 8, "pool": 6},
    "history_ad": {"steps": 5, "batch": 2, "width": 8, "history_steps": 8},
    "patchsvdd": {"steps": 3, "batch": 2, "rows": 40, "big_rows": 20},
    "translate": {"steps": 3, "batch": 2, "base": 8},
    "descargan": {"steps": 3, "batch": 2, "base": 8},
    "draem": {"steps": 10, "batch": 2, "lr": 0.01},
}
