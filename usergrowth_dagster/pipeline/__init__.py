"""The steps of a task: population, scores, decision, output and send plan."""
