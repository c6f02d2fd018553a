"""Ensembles whose networks any number of workers train separately."""
