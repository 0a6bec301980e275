"""Tables of scattered data and gridded fields with gaps, made measurements; posteriors made maps."""
