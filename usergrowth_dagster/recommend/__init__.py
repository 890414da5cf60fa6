"""Which items a user takes to next: routes that recall items, their fusion, a ranker, filters."""
