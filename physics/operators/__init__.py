"""Forward operators of all domains, their descriptions and their composition."""
