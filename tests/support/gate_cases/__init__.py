"""Cases of the gate's decision; `table` has all of them, and what each comes to as text."""
