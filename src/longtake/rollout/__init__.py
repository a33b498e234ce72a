"""A take from one rollout: chunk after chunk on a state that does not grow."""
