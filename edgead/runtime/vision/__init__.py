"""The OPC UA server of the companion specification for machine vision (OPC 40100-1)."""
