"""What comes in on its own: uploads that become tasks, repeats, and our own touches."""
