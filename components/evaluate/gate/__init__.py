"""The decision: rules and thresholds, what to do about a refusal, and advice."""
