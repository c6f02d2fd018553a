"""Ensembles of networks that are trained apart, by any number of workers."""
