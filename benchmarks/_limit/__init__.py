"""Parts of `benchmarks.limit`."""
