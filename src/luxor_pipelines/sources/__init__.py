"""Bytes from outside, read into typed rows. Nothing here writes."""
