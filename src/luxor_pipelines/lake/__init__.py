"""Bytes, blobs and Parquet. Knows nothing of finance."""
