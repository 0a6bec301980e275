"""Point data to a map, beside the peers of geostatistics: `infield bench kriging`."""
