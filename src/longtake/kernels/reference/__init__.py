"""Every kernel in plain PyTorch: the contract."""
