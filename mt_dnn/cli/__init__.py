"""The mt-dnn command: one file per subcommand."""
