"""Work that may be interrupted: shards, what was skipped, what is written at the end, all steps as one command."""
