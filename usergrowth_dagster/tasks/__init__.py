"""From an uploaded population to batches: the steps of a task, each over one execution date."""
