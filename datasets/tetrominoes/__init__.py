"""Tetrominoes: three pieces of Tetris in six colours on black."""
