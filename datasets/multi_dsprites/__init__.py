"""multi-dSprites: coloured squares, ellipses and triangles."""
