"""Figures about the running processes, for Prometheus."""
