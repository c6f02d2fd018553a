"""Weights that this project trained: one folder each, listed in `index.json`."""
