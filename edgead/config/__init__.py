"""What stands in a station.yaml."""
