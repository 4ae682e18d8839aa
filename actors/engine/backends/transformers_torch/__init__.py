"""The backend `transformers`: PyTorch on a GPU, or slowly on the CPU.

::

    backend      prompts, and the thread of each request: its tokens become text     (reading)
    worker       the one thread that computes: a chunk of a prompt, then one token of each answer
    requests     what worker and model say to each other
    batch        who is read next, who writes in which row; pure
    forward      the model itself, and which token it chooses                       (choosing)
    rows         a row of keys and values for each slot
    guide        which tokens a schema or grammar allows
    loading      the model's files: the GGUF file, converted once                   (conversion)
"""
