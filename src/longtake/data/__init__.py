"""Clips for training: from a folder of films to shards, each drop with its reason."""
