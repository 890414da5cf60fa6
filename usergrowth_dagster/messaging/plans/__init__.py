"""From decided people to rows of the ledger, for real or as a rehearsal."""
