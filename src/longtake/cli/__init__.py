"""The commands a user types; thin, one file per verb."""
