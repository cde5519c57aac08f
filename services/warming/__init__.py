"""Generating answers before anybody asks: a command, run by hand or off-peak by a schedule."""
