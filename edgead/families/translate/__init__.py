"""Translation: a defective part made good again, and what had to change."""
