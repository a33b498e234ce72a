"""Hot operations: a plain reference for each and a faster twin where a GPU has one."""
