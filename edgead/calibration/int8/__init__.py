"""Writing the INT8 graph: observers, rounding, Q/DQ, half precision, the linter."""
