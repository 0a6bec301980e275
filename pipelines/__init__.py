"""What does a person run? The commands; no mathematics lives here."""
