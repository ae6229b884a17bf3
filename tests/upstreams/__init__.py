"""The room that talks to tools, against real servers in both eras and over both transports."""
