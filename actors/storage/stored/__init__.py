"""Stored files: what actors keep on disk under a name, whole and right, within a quota each."""
