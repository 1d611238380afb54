"""Who vouches for a model: its signature, whose signatures are trusted, and how one is checked."""
