"""How a run is divided into tasks, and where they are computed."""
