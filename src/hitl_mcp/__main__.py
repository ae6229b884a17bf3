"""`python -m hitl_mcp`: the same as the `hitl-mcp` command, for whoever knows the Python but not its scripts."""

from __future__ import annotations

import sys

from hitl_mcp.command import main

sys.exit(main())
