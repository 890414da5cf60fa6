"""Things to try the product on: data sets, simulated worlds, rounds of campaigns, a local Kannel.

Nothing of the product imports this package; only the command line does.
"""
