"""What training costs: counts of work and memory, and a model of its time."""
