"""Workers on other machines: how they reach store and files, and the Ray cluster they run on."""
