"""The whole system on one machine: PostgreSQL, two Valkeys, the Gemini emulator and the services.

`make run` is for people; `devstack.stack.Stack` is the same thing for tests and benchmarks.
"""
