"""The test vectors of PROTOCOL.md; `python -m engine_bridges.vectors` writes them."""
