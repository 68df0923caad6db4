"""Crashes, races and a bad network: real processes, a real blob server, and what must be left afterwards."""
