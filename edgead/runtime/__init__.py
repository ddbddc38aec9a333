"""The station: capture, inference, decision, outputs, records."""
