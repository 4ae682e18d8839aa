"""How processes are watched and restarted. Pure decisions, and the spawner that forks."""
