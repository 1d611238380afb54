"""The whole loop, replayed over the months of 2013."""
