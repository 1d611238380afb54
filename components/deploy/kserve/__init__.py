"""Target `kserve`: InferenceServices, their rollouts, and what the cluster says of them."""
