"""How fast a model runs here: a film's stages, one forward, the reference library beside it."""
