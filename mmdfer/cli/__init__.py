"""The commands `mmdfer <name>`, one module for each."""
