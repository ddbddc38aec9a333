"""From a budget in milliseconds to the most accurate engine that keeps it on this device (docs/budget.md)."""
