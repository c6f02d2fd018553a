"""Gradient checkpointing: activations are computed twice so that fewer of them are kept."""
