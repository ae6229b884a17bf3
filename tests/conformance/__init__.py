"""The protocol's official conformance suite, run against the SDK's everything server: direct, and through the gate.

By hand, `python -m tests.conformance [compare|direct|gate|bare] [REVISION] [--scenario NAME]` prints what fails and
why; `compare` what passes direct and not through the gate, `bare` is a gateway with the sandbox behind it.
"""
