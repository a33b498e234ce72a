"""Films over HTTP: a durable queue, workers as processes, and an API in the usual video dialect."""
