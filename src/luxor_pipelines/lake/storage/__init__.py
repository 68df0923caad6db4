"""Files of a lake: list, read and conditionally swap them, on Azure, on disk and in memory."""
