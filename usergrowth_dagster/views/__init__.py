"""What people look at, as plain values: no Dagster, no printing.

The command line prints these values; a console shows the same ones.
"""
