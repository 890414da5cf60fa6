"""Users most likely to take to items with an attribute, from files in the form of Personalize."""
