"""What works on this machine, and what to install for the rest."""
