"""The whole of edgead at once, on a simulated conveyor."""
