"""The gate before a write, and the audit of what is stored."""
