"""Where the outside meets us. A surface turns outside words into ours and calls one function; it decides nothing.

`doors` is what every surface on the TCP port stands behind. The surfaces never import one another.
"""
