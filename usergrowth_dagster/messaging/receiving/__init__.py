"""What providers post back: delivery reports and replies."""
