"""The functions behind `infield.NAME`: what the commands do, on objects in memory or from file to file."""
