"""The station: capture, inference, decision, outputs, records."""

LOOP_TIMEOUT_S = 1.0
"""Without progress of the loop for so long, a station is not ready and its heartbeat stands still."""
