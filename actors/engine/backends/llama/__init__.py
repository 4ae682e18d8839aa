"""What is said to llama.cpp and what it says, without the library itself: the backend is
`actors.engine.backends.llama_cpp`."""
