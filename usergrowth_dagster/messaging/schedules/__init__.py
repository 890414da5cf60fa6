"""When messages go out: occurrences, their windows, repeats, send-time optimization."""
