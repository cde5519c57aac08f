"""A small pipelining client for one Valkey or a cluster of them."""
