"""What surrounds a training: its devices, its time, its checkpoints, and how it is cut off."""
