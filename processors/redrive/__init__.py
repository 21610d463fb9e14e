"""The redrive processor: puts the records of dead letters onto their topics again, or notes that they are done with."""
