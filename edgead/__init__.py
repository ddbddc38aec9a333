"""edgead: trained visual anomaly detectors, verified and running on the box beside the camera."""

__version__ = "0.1.0"
