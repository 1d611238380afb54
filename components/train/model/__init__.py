"""The model: preprocessing, network, optimizer, export."""
