"""The records an operator edits: campaigns, groups, jobs, signatures, templates, schedules."""
