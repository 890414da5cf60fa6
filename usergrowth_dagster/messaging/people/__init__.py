"""The vault of addresses and its keys, and what is known, kept and erased of a person."""
