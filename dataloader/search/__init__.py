"""Who is similar: the search for neighbours. Imports of the ground floor (dataloader) and torch alone."""
