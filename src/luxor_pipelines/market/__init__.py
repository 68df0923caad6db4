"""Finance on arrays and frames: pure functions, no I/O, no globals, no clock."""
