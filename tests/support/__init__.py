"""Desks, ledgers and numbers that the tests of several folders share."""
