"""What `benchmarks.train_quality` is made of: the other systems, results that are kept, and standings."""
