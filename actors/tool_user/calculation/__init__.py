"""The calculator's arithmetic: words, tokens, grammar, units, exact numbers. Pure, no ``eval``."""
