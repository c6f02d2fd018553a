"""Where a run trains: one device, several devices, or several machines."""
