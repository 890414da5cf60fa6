"""What a person asks of a task: why, what would be sent, and whether it replays."""
