"""Runs of the chain in this process: jobs, their reports, what a killed run left, the last one."""
