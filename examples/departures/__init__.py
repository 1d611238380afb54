"""The departures example: rows and entities that several columns name together."""
