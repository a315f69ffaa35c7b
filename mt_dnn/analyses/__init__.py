"""What trained models do beyond their scores. One file per analysis, each makes a JSON record."""
