"""Bridges: one folder per engine. Each knows its engine and `capture.sender`, nothing else."""
