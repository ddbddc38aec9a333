"""Running a built engine: one adapter file a backend."""
