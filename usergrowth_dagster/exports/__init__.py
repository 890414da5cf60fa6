"""Audiences and scores for other tools, as ``exports.yml`` names them."""
