"""What `benchmarks.peers` and `benchmarks.limit` measure: the trained models, the peers' graphs of them, and runners."""
