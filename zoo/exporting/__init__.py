"""SavedModel and LiteRT files, and the folding of normalisations that makes them small."""
