"""Set-ups of projection mapping: captures, their decoder, and an independent renderer."""
