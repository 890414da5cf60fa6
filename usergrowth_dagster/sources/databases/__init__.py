"""Tables of PostgreSQL and MySQL as sources: what is new in them is copied into the home."""
