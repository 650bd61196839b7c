"""What to run, in what order, and the record of it: evaluation file -> experiments -> records. No Ray here."""
