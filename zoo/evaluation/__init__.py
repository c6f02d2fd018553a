"""What a classifier is evaluated on beyond its test set: corrupted and out-of-distribution images."""
