"""Delta tables, the DuckDB engine, and the SQL model graph with its lineage."""
