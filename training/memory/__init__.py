"""Rematerialisation: computing activations twice to keep fewer of them."""
