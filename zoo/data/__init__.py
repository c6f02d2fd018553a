"""Image data sets: arrays in memory, streams from disk, and what reads them."""
