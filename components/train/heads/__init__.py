"""What the network learns of each kind of label: the loss, the answers, and how they are calibrated."""
