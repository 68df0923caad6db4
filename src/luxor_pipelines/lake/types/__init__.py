"""Column types: schemas, logical types, pandas and Arrow, the legacy all-text codec."""
