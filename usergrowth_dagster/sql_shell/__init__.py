"""Read-only SQL over the tables of a home: what ``usergrowth sql`` runs."""
