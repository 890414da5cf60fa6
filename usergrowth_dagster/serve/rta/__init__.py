"""The HTTP service that exchanges ask whether to bid: an address for the shape of each."""
