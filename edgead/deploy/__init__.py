"""Files for a plant: what stands beside edgead on a PLC, in systemd, in the network. ``edgead deploy-files`` writes them."""

KINDS = ("plc", "systemd", "udev", "network", "jetson", "offline", "container", "ansible", "prometheus", "grafana", "station")
