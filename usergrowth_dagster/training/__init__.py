"""Training the models that tasks ask for, and finding the one that may score."""
