"""The HTTP service that providers report to."""
