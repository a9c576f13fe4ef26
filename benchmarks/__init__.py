"""Measurements too long for the tests: ``python -m benchmarks.NAME``."""
