"""Training scripts, recipes and what they are made of."""
