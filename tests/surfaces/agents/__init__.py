"""The door through which agents come."""
