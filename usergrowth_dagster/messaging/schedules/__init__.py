"""When messages go out: occurrences, their windows, repeats, smart send."""
