"""From a shot list to a cut: read, plan, make what changed, and hand over to an editor."""
