"""Where texts are submitted."""
