"""Table contracts, landing readers, quarantine and example data sets."""
