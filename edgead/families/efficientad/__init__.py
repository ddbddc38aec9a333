"""EfficientAD: a student that imitates a teacher, and an autoencoder."""
