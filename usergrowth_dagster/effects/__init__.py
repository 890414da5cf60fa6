"""What a campaign brought back: outcomes, lift against the control group, cost, reports."""
