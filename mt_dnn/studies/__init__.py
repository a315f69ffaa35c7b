"""Many runs: one YAML file is a grid of runs and the tables and figures that are made of them."""
