"""The parts of an assistant, each a process of its own."""
