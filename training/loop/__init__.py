"""One training run: data, model, optimiser, checkpoints, and the record it leaves."""
