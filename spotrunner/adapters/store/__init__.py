"""ports.Store: in memory for stories, in SQL for daemons."""
