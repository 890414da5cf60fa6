"""What the `usergrowth` command does: the same runs as in the UI, without a UI."""
