"""Hostile callers, by the hundred; the judge is what the simulated Azure received."""
