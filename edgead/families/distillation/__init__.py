"""STFPM and Reverse Distillation: a student rebuilds the features of a frozen backbone."""
