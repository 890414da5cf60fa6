"""Who is texted: eligibility, holdout, selection policies, decision records and output.csv."""
