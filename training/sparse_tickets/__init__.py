"""Ensembles of sparse networks: the phases of their training, and the callbacks in them."""
