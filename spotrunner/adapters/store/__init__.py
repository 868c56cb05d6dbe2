"""ports.Store, in memory and in SQL."""
