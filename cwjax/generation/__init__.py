"""Generation of tests for neural networks: systems of the literature, from parts that the attacks share."""
