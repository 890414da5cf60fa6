"""Texts, their price, the send ledger, and its dispatch to a gateway."""
