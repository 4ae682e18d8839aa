"""Grammars in llama.cpp's format (GBNF): what is left of one when an answer has begun. Pure."""
