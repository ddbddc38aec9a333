"""Bundles in an OCI registry (Docker's, Harbor, GitLab, Zot, ...): pushed, pulled, pinned by a digest."""
