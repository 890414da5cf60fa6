"""Sending what is due, and writing down what came of it."""
