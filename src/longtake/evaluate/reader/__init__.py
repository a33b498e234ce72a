"""Reads a film of the previz world: who is there, how they look, what they and the camera do."""
