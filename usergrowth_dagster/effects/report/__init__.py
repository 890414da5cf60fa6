"""The report of a campaign's effect: its funnel, its charts, its page."""
