"""One file for each question; each measures noyau, the floor and a peer in the same run."""
