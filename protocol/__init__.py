"""All that crosses a process boundary. A client of noyau needs nothing else."""
