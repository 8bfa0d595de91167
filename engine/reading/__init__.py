"""What is done with finished recordings: verify them, and make plain copies on purpose."""
