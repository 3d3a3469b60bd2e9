"""The OpenGL bridge: captures any OpenGL game on Linux through a library that is preloaded into it.

The library (C++) hooks the swap of the buffers, finds the scene's depth and sends both; `build` compiles it on first
use, `launch` starts a game with it, and `python -m engine_bridges.opengl -- GAME` does both.
"""
