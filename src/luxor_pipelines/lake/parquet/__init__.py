"""One Parquet file: its reader, footer, predicates and series index."""
