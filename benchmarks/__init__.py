"""Side-by-side measurements of a tool call direct and through the gateway: `python -m benchmarks`.

Timings belong here and never in a test. Nothing here is part of the package.
"""
