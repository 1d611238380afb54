"""From a csv to a served and monitored model: several classes, and a number, without a time column."""
