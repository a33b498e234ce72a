"""Losses, optimisers, data on the fly and the loop that resumes to the exact step."""
