"""`zoo benchmark`: what every method costs, as measured ratios to one network."""
