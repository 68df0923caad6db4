"""A table: its layout, scans, loads, and how it is rewritten."""
