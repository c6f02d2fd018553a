"""What training costs: counted work, and the time it will take."""
