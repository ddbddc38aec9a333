"""Parts of `benchmarks.peers`: what both sides get, anomalib's side in a process of its own, edgead's side, the tables."""
