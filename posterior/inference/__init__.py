"""Linear algebra and local models that samplers are made of."""
