"""Whoever means harm, or errs: wrong messages, and agents that ask for too much."""
