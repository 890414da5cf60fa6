"""Where exports go, one kind a file."""
