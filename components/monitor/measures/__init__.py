"""What is measured of a window: drift, performance, skew, and the system."""
