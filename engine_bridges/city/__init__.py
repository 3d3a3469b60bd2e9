"""The embedded engine: a small software-rendered street with exact buffers, and its high-quality shading."""
