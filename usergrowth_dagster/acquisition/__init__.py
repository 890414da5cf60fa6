"""Acquisition: whether to bid for a device when an ad exchange asks (RTA, the real-time API)."""
