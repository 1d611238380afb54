"""What is measured, once: the label rule, every metric, and the intervals around them."""
