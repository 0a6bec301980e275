"""k-space files of scanners and archives."""
