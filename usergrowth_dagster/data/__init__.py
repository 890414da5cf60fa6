"""Table contracts, landing readers, storage and phone numbers."""
