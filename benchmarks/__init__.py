"""What the layers cost: for developers, in the repository only."""
