"""Every question on an example data set, and one table of what was measured, by stage of AARRR."""
