"""Signatures and templates: their rules, rendering, and how texts are billed."""
