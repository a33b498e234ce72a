"""Public SANA-Video checkpoints: loaded as they lie, run by our own networks."""
