"""`LuxorQuery`, the door through which everybody reads, and what it is composed of."""
