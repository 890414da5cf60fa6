"""Tables of lakes as sources: Delta and Iceberg, as their newest snapshot has them."""
