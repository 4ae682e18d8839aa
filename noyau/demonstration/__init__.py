"""What ``noyau demo`` shows: the stage it starts, its scenes, and the report of what held."""
