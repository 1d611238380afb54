"""The parts of the double of the Kubeflow Pipelines API; `support.kfp_double` serves them."""
