"""Parts of `benchmarks.methods`: one cell of it in a process of its own, the page of maps, the tables and docs/methods.md."""
