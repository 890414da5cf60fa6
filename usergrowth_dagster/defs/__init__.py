"""Orchestration only: partition → one call into a capability → metadata."""
