"""The pictures that an engine is calibrated by."""
