"""Moves bytes between the processes: the ring, the message channel, and what they carry."""
