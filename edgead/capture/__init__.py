"""Pictures for training, taken with a camera of the line: which are kept, how good each is, what is still missing."""
