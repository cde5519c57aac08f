"""Benchmarks. Each measures a bare counterpart in the same run: ratios last, milliseconds do not."""
