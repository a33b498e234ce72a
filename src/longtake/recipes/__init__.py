"""Full training runs as Python functions."""
