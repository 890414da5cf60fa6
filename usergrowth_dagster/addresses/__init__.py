"""Addresses of people: phone numbers and e-mail addresses, in Python and in SQL.

A text as somebody wrote it is read into one form, or into the reason why it is none
(:mod:`~.numbers`, :mod:`~.emails`); :mod:`~.sql` does the same in DuckDB and agrees with both.
:mod:`~.identity` has the form by which two addresses are the same person's, which stored hashes are
made of; :mod:`~.shown` what may be shown of an address; :mod:`~.mainland` how providers of mainland
China write numbers.
"""
