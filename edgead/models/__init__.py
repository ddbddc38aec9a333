"""The networks (torch): backbones, PatchCore, SimpleNet, EfficientAD."""
