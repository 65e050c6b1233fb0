"""The report of a run: one HTML page without scripts, and the same figures as a table for the terminal."""
