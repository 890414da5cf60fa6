"""Routes: each recalls items for users by one idea, in a file of its own."""
