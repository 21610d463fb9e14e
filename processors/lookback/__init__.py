"""Looking back: what the system knew at a moment, from the log alone. Takes an `EventLog`, and writes nothing."""
