"""The handshake with a PLC and the links that carry it."""
