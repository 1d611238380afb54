"""What the gate's rules look at, measured on the test rows."""
