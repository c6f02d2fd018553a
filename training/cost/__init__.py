"""What training costs: counts of work and memory, a model of its time, and the dry run."""
