"""Bundles for other programs: served over the network (KServe v2), or written as files that other model servers read."""
