"""Sparse layers, and what decides where their connections are."""
