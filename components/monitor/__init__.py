"""Monitor: drift, performance and system metrics of a window, alerts, retraining."""
