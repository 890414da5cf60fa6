"""Whom a text makes return: learners of the effect, naive controls beside them, and the choice."""
