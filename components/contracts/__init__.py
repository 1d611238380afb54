"""What one stage hands the next, and the settings that they share."""
