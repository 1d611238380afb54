"""A row's outcome, as a table has it: yes, no, one of several classes, or a number."""
