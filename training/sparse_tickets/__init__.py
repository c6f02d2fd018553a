"""Ensembles of sparse networks: phases of training and what acts in them."""
