"""Where a run trains: one device, several, or several machines."""
