"""What helps a person to begin: the doctor and the demo. Nothing here takes part in a call."""
