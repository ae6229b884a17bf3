"""Where the outside meets us."""
