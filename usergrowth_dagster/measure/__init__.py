"""What came of a task or a period: outcomes, effect, report."""
