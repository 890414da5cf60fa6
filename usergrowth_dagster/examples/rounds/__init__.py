"""Ten campaign rounds on the synthetic world: what is measured decides the next round."""
